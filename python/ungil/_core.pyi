"""The Rust core of ungil."""

import concurrent.futures
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, Self

from ungil._workload import Workload

class Ticker:
    """Ticks every 5 ms in the calling thread and remembers how late each tick was."""

    def wait(self) -> None:
        """Sleeps without the GIL until the next tick is due, and takes its turn."""

    def turn(self) -> None:
        """Takes the calling thread's turn now."""

    def until_due_s(self) -> float:
        """Seconds until the next tick is due."""

def compare(plan: str, payload: bytes, width: int) -> tuple[str, str]:
    """Runs the comparison that ``plan`` (JSON) describes.

    Returns:
        The comparison as JSON, and as plain text of ``width`` columns.
    """

def die_with_parent(parent: int) -> None:
    """Makes this process end with its parent."""

def keep(host: int, experiment: int) -> NoReturn:
    """Waits for the host or the experiment to end, and ends everything that the host left."""

def main(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""

def monotonic_ns() -> int:
    """Nanoseconds on the clock that all processes of the machine share."""

def note_stray() -> None:
    """Notes that a task forked and that the child came back from it."""

def prepare_keeper() -> None:
    """Prepares this process to keep a host: its own session, and the reaper of all below it."""

def serve(channel: int, workload: Workload, keeper: int) -> int:
    """Serves the experiment at the other end of ``channel`` until it hangs up.

    Returns:
        The exit code of the host.
    """

class LazyFuture:
    """The lazy half of a future: what works without the stdlib's lock and lists."""

    def __new__(cls) -> Self: ...
    def result(self, timeout: float | None = None) -> Any:
        """Waits for the result."""

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Waits for the exception."""

    def done(self) -> bool:
        """Whether the task has ended or was cancelled."""

    def running(self) -> bool:
        """Whether a worker has begun the task and not ended it."""

    def cancelled(self) -> bool:
        """Whether the task was cancelled."""

    def cancel(self) -> bool:
        """Cancels the task, if no worker has begun it."""

    def _show(self) -> None:
        """Shows the future to the garbage collector."""

class CallQueue:
    """What a thread pool's executor and its threads share."""

    @property
    def broken(self) -> str | None:
        """Why the queue is broken, if it is."""

    def run(self) -> None:
        """Takes calls and runs them, until the executor is closed and no call is left."""

    def break_down(self, reason: str) -> None:
        """Fails every call that waits, and all that come."""

    def close(self, cancel_futures: bool) -> None:
        """Takes no more calls, and cancels those that wait if told so."""

    def has_threads(self) -> bool:
        """Whether a thread runs calls, or will."""

    def __len__(self) -> int:
        """Calls that wait."""

class ThreadPool:
    """The core of ``ungil.ThreadPoolExecutor``."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def _open(
        self, *, workers: int, start_thread: Callable[[], None], future_class: type[LazyFuture]
    ) -> CallQueue: ...
    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> concurrent.futures.Future[Any]:
        """Runs ``fn(*args, **kwargs)`` in a thread of the executor."""

class PreparedFunction:
    """A function that was written down for many tasks."""

class ProcessPoolHandle:
    """A pool of processes, for those who close it and look at it."""

    def close(self, cancel_futures: bool) -> None:
        """Takes no more tasks, and cancels those that no worker has if told so."""

    def end_workers(self, number: int) -> None:
        """Takes no more tasks, cancels what has not begun, and sends all workers a signal."""

    def wait_closed(self, timeout: float | None = None) -> bool:
        """Waits until all tasks and workers have ended; ``False`` if not within the time."""

    def is_closed(self) -> bool:
        """Whether all tasks and workers have ended after the pool was closed."""

    def workers(self) -> list[tuple[int, int]]:
        """Process number and pidfd of each worker."""

    def pending(self) -> int:
        """Tasks that have not ended."""

class ProcessPool:
    """The core of ``ungil.ProcessPoolExecutor``."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    @property
    def _broken(self) -> str | None: ...
    def _open(
        self,
        *,
        workers: int,
        threads: int,
        tasks_per_worker: int | None,
        start_method: str,
        encoder: Any,
        capture: Callable[[], tuple[bytes, list[int]]],
        future_class: type[LazyFuture],
    ) -> None: ...
    def _handle(self) -> ProcessPoolHandle: ...
    def _prepare(self, function: Callable[..., Any]) -> PreparedFunction: ...
    def _map(
        self,
        function: PreparedFunction,
        items: Iterable[Any],
        is_many: bool,
        is_at_hand: bool,
        timeout: float | None,
        ahead: int | None,
    ) -> MapResults: ...
    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> concurrent.futures.Future[Any]:
        """Runs ``fn(*args, **kwargs)`` in a worker process."""

class MapResults:
    """The results of a call of ``map``, in the order of the items."""

    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def close(self) -> None:
        """Cancels what has not begun, and ends."""

class BufferCollector:
    """Keeps the buffers that a pickler takes out of band."""

    @property
    def saw_readonly(self) -> bool:
        """Whether a read-only buffer came by."""

    @property
    def saw_shared(self) -> bool:
        """Whether memory came by that the receiver shares."""

    def __call__(self, buffer: Any) -> bool:
        """Takes a ``pickle.PickleBuffer``; a true answer leaves it in the pickle."""

    def reset(self) -> None:
        """Forgets the buffers."""

class SharedBuffer:
    """Memory that arrived with a value, and is given back with it, or memory that is shared."""

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

def allocate_shared(length: int) -> SharedBuffer:
    """Memory that this process shares with its workers, or a worker with its program."""

def shared_bytes() -> int:
    """Bytes of shared memory that are in use, a worker's results among them."""

class Guards:
    """Things that must not have changed for something written down to be what it was."""

    def __new__(cls, described: list[tuple[int, Any, Any, Any]]) -> Self: ...
    def hold(self) -> bool:
        """Whether nothing has changed."""

def main_globals(pickle: bytes) -> tuple[str, ...] | None:
    """The globals of ``__main__`` that a pickle names; ``None`` if that does not tell enough."""

class WorkerStart:
    """What a worker was started with."""

    def __new__(cls, descriptors: list[int]) -> Self: ...
    def take_descriptors(self) -> list[int]:
        """Gives the descriptors away, to a program that will be executed."""

    @staticmethod
    def end_with_zygote() -> None:
        """Makes the kernel end this worker with the zygote, once more."""

    def open(self) -> WorkerProcess:
        """The worker."""

class WorkerProcess:
    """A worker process, as its Python side sees it."""

    @property
    def likeness(self) -> bytes:
        """How the worker shall look, as the parent wrote it."""

    def take_descriptors(self) -> list[int]:
        """Gives the descriptors away that the parent sent."""

    def ready(self, define: Callable[[Any], None], flush: Callable[[], None]) -> None:
        """Says that tasks can come."""

    def fail(self, reason: str) -> None:
        """Says that the initializer failed, and why."""

    def run(self) -> None:
        """Runs tasks until the parent wants the worker to end."""

    @staticmethod
    def is_running_task() -> bool:
        """Whether the calling thread runs a task."""

def take_master() -> int:
    """Takes a zygote's master socket from the place of its standard input."""

def serve_zygote(master: int, prepare: Callable[[], bool]) -> WorkerStart | None:
    """Serves pools as a zygote; returns in each worker with its start."""

def run_announcements() -> NoReturn:
    """What the announcing thread does, for ever."""

def run_callbacks() -> NoReturn:
    """What the thread of the callbacks does, for ever."""

def flush_announcements() -> None:
    """Waits until every future that has ended is announced and its callbacks were called."""

def take_no_calls() -> None:
    """Lets no thread pool take another call: the interpreter ends."""
