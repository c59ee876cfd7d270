"""``ungil.ProcessPoolExecutor``."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import select
import signal
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress

from ungil import _core, _cpus, _exit, _likeness, _mapping
from ungil._futures import Future
from ungil._pickling import Encoder

# Type checkers take this name for true; importing typing takes a program long that does not need it.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

__all__ = ["ProcessPoolExecutor"]

# Whatever else is iterated may wait for the results of the items that it has given out.
_AT_HAND = frozenset({list, tuple, range, str, bytes, bytearray, dict, set, frozenset})


class ProcessPoolExecutor(  # type: ignore[misc]
    _core.ProcessPool, _mapping.Mapping, concurrent.futures.ProcessPoolExecutor
):
    """Runs calls in worker processes, with the contract of the stdlib's executor.

    A worker that dies fails only the call it was running. Functions and classes of ``__main__``
    and of notebooks travel by value, without a guard in the script. Large buffers, such as those
    of arrays, go through shared memory.

    Args:
        max_workers: Processes at most; by default as many as there are CPUs to use.
        mp_context: A context of ``multiprocessing``, for its start method. By default, and for
            ``forkserver``, workers are forked from a process that is kept for this purpose;
            ``fork`` forks this process, once, when the first call is submitted; ``spawn`` starts
            a fresh interpreter for each worker.
        initializer: Called in each worker before its first task. If it fails, the executor is
            broken.
        initargs: What the initializer is called with. Locks and queues of ``multiprocessing`` can
            be given to workers in this way only.
        max_tasks_per_child: A worker is replaced after so many calls.
        threads_per_worker: Calls that each worker runs at once, in threads.

    Raises:
        ValueError: A number is too small, or ``max_tasks_per_child`` is combined with ``fork``.
        TypeError: The initializer cannot be called, or a number is none.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: multiprocessing.context.BaseContext | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        threads_per_worker: int = 1,
    ) -> None:
        if max_workers is None:
            max_workers = _cpus.count()
        if max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if not isinstance(threads_per_worker, int):
            raise TypeError("threads_per_worker must be an integer")
        if threads_per_worker < 1:
            raise ValueError("threads_per_worker must be >= 1")
        start_method = "forkserver"
        if mp_context is not None:
            start_method = mp_context.get_start_method() or "forkserver"
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
            if start_method == "fork":
                raise ValueError(
                    "max_tasks_per_child is incompatible with the 'fork' multiprocessing start "
                    "method; supply a different mp_context."
                )
        self._max_workers = max_workers
        self._mp_context = mp_context or multiprocessing.get_context(
            "forkserver" if max_tasks_per_child is None else "spawn"
        )
        self._initializer: Any = initializer
        self._initargs = initargs
        self._max_tasks_per_child = max_tasks_per_child
        self._threads_per_worker = threads_per_worker
        self._shutdown_thread = False
        encoder = Encoder()
        self._open(
            workers=max_workers,
            threads=threads_per_worker,
            tasks_per_worker=max_tasks_per_child,
            start_method=start_method,
            encoder=encoder,
            capture=_likeness.Capture(
                start_method, encoder, initializer, initargs, threads_per_worker
            ),
            future_class=Future,
        )
        self._pool = pool = self._handle()
        self._processes: Any = _Processes(pool)
        self._closing = _exit.Closing(lambda: pool.close(False), pool.wait_closed, pool.is_closed)
        _exit.register(self._closing)
        # An executor that is dropped runs what it has, and its workers end.
        weakref.finalize(self, pool.close, False).atexit = False

    def _map_items(
        self,
        fn: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        timeout: float | None,
        ahead: int | None,
    ) -> Iterator[Any]:
        if "submit" in self.__dict__ or type(self).submit is not ProcessPoolExecutor.submit:
            # Somebody counts or changes what is submitted.
            return super()._map_items(fn, iterables, timeout, ahead)
        try:
            prepared = self._prepare(fn)
        except Exception:
            # Each future says why.
            return super()._map_items(fn, iterables, timeout, ahead)
        is_at_hand = all(type(each) in _AT_HAND for each in iterables)
        is_many = len(iterables) != 1
        items = zip(*iterables, strict=False) if is_many else iterables[0]
        return self._map(prepared, items, is_many, is_at_hand, timeout, ahead)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more calls.

        Args:
            wait: Wait until all calls have ended, and the workers.
            cancel_futures: Cancel the calls that no worker has.
        """
        self._shutdown_thread = True
        self._pool.close(cancel_futures)
        if wait:
            self._pool.wait_closed()
            _exit.unregister(self._closing)
            _core.flush_announcements()

    def terminate_workers(self) -> None:
        """Ends the workers with SIGTERM. Running calls fail, waiting ones are cancelled.

        The executor is shut down.
        """
        self._end_workers(signal.SIGTERM)

    def kill_workers(self) -> None:
        """Ends the workers with SIGKILL. Running calls fail, waiting ones are cancelled.

        The executor is shut down.
        """
        self._end_workers(signal.SIGKILL)

    def _end_workers(self, number: int) -> None:
        self._shutdown_thread = True
        self._pool.end_workers(number)

    def _force_shutdown(self, operation: str) -> None:
        signals = {"terminate": signal.SIGTERM, "kill": signal.SIGKILL}
        if operation not in signals:
            raise ValueError(f"Invalid operation: {operation!r}")
        self._end_workers(signals[operation])


class WorkerHandle:
    """A worker process, as ``multiprocessing`` would show it.

    Attributes:
        pid: Its process number.
    """

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid = pid
        self._descriptor = os.dup(descriptor)
        weakref.finalize(self, os.close, self._descriptor).atexit = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} pid={self.pid} {'alive' if self.is_alive() else 'ended'}>"

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return not self._wait(0)

    def join(self, timeout: float | None = None) -> None:
        """Waits until it has ended, or so many seconds."""
        self._wait(timeout)

    def terminate(self) -> None:
        """Sends it SIGTERM."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Sends it SIGKILL."""
        self._signal(signal.SIGKILL)

    def _wait(self, timeout: float | None) -> bool:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(None if timeout is None else max(0.0, timeout) * 1000))

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, number)


class _Processes(Mapping[int, WorkerHandle]):
    """The workers that there are now, by process number."""

    def __init__(self, pool: _core.ProcessPoolHandle) -> None:
        self._pool = pool
        self._handles: dict[int, WorkerHandle] = {}

    def _now(self) -> dict[int, WorkerHandle]:
        workers = self._pool.workers()
        known = self._handles
        self._handles = {
            pid: known.get(pid) or WorkerHandle(pid, descriptor) for pid, descriptor in workers
        }
        return self._handles

    def __getitem__(self, pid: int) -> WorkerHandle:
        return self._now()[pid]

    def __iter__(self) -> Iterator[int]:
        return iter(list(self._now()))

    def __len__(self) -> int:
        return len(self._now())

    def copy(self) -> dict[int, WorkerHandle]:
        """The workers that there are now."""
        return dict(self._now())
