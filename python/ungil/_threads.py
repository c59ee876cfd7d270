"""``ungil.ThreadPoolExecutor``."""

from __future__ import annotations

import concurrent.futures
import itertools
import threading
import weakref
from collections.abc import Callable
from concurrent.futures._base import LOGGER

from ungil import _core, _coroutines, _cpus, _exit, _mapping
from ungil._futures import Future

# Type checkers take this name for true; importing typing takes a program long that does not need it.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

__all__ = ["ThreadPoolExecutor"]


class ThreadPoolExecutor(_core.ThreadPool, _mapping.Mapping, concurrent.futures.ThreadPoolExecutor):
    """Runs calls in threads of this process, with the contract of the stdlib's executor.

    Threads are real ``threading.Thread`` objects, started when they are needed. Coroutine
    functions are run to their end in an event loop that each thread keeps.

    Args:
        max_workers: Threads at most; by default four more than there are CPUs, at most 32.
        thread_name_prefix: What the threads' names begin with.
        initializer: Called in each thread before its first task. If it fails, the executor is
            broken.
        initargs: What the initializer is called with.

    Raises:
        ValueError: There would be no thread.
        TypeError: The initializer cannot be called.
    """

    _counter = itertools.count().__next__

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        if max_workers is None:
            max_workers = min(32, _cpus.count() + 4)
        if max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._max_workers = max_workers
        self._thread_name_prefix = (
            thread_name_prefix or f"ThreadPoolExecutor-{ThreadPoolExecutor._counter()}"
        )
        self._initializer: Any = initializer
        self._initargs = initargs
        self._threads: set[threading.Thread] = set()
        self._shutdown = False
        starter = _Starter(self._threads, self._thread_name_prefix, initializer, initargs)
        queue = self._open(workers=max_workers, start_thread=starter, future_class=Future)
        starter.queue = queue
        self._queue = queue
        threads = self._threads
        closing = _exit.Closing(
            lambda: queue.close(False), lambda: _join(threads), lambda: not queue.has_threads()
        )
        starter.closing = closing
        # An executor that is dropped runs what it has, and its threads end.
        weakref.finalize(self, queue.close, False).atexit = False

    @property
    def _broken(self) -> Any:  # type: ignore[override]
        # A text, as in the stdlib, though its stub says otherwise.
        return self._queue.broken or False

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more calls.

        Args:
            wait: Wait until all calls have ended, and the threads.
            cancel_futures: Cancel the calls that have not begun.
        """
        self._shutdown = True
        self._queue.close(cancel_futures)
        if wait:
            _join(self._threads)


def _join(threads: set[threading.Thread]) -> None:
    for thread in list(threads):
        thread.join()


class _Starter:
    """Starts the threads of an executor, of which it knows nothing else."""

    queue: _core.CallQueue
    closing: _exit.Closing

    def __init__(
        self,
        threads: set[threading.Thread],
        name_prefix: str,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
    ) -> None:
        self._threads = threads
        self._name_prefix = name_prefix
        self._initializer = initializer
        self._initargs = initargs

    def __call__(self) -> None:
        name = f"{self._name_prefix}_{len(self._threads)}"
        thread = threading.Thread(
            name=name, target=_run, args=(self.queue, self._initializer, self._initargs)
        )
        _exit.register(self.closing)
        self._threads.add(thread)
        try:
            thread.start()
        except BaseException:
            self._threads.discard(thread)
            raise


def _run(
    queue: _core.CallQueue,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
) -> None:
    if initializer is not None:
        try:
            initializer(*initargs)
        except BaseException:
            LOGGER.critical("Exception in initializer:", exc_info=True)
            queue.break_down("A thread initializer failed, the thread pool is not usable anymore")
            return
    queue.run()
    _coroutines.close()
