"""What runs inside workers: importable functions and callables that pickle by reference.

Worker processes, fresh interpreters and subinterpreters import this module, so it imports
little and never the Rust core.
"""

from __future__ import annotations

import os
import sys
import time

# Type checkers take this name for true; importing typing would slow every worker's start.
TYPE_CHECKING = False

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from concurrent.futures import ThreadPoolExecutor
    from typing import Any

    Call = Callable[[Any], Any]
    """A task's function: it takes the item and returns the result."""

    Record = tuple[Any, int, str, str, int, int]
    """Result, process number, process name, thread name, start and finish in monotonic ns."""


class SameCall:
    """Calls a function with the same arguments whatever the item is."""

    def __init__(
        self, function: Callable[..., Any], arguments: Sequence[Any], keywords: Mapping[str, Any]
    ) -> None:
        self.function = function
        self.arguments = tuple(arguments)
        self.keywords = dict(keywords)

    def __call__(self, item: object) -> Any:
        return self.function(*self.arguments, **self.keywords)


class ItemFirst(SameCall):
    """Calls a function with the item, then the same further arguments."""

    def __call__(self, item: object) -> Any:
        return self.function(item, *self.arguments, **self.keywords)


class CoroutineCall:
    """Runs a coroutine function to its end in an event loop that its thread keeps."""

    def __init__(self, call: Call) -> None:
        self.call = call

    def __call__(self, item: object) -> Any:
        return _thread_runner().run(self.call(item))


class Unawaited:
    """Stands for a coroutine that a function returned which is no coroutine function."""


class Guarded:
    """Ends a child process that a task forked and that comes back from it as if it were the task.

    Without this, one ``os.fork()`` in a task would run every later task twice. It also notices a
    coroutine that an ordinary function returns, which some executors would run and others not.
    """

    def __init__(self, call: Call) -> None:
        self.call = call

    def __call__(self, item: object) -> Any:
        from types import CoroutineType

        process = os.getpid()
        try:
            result = self.call(item)
            if type(result) is CoroutineType:
                result.close()
                return Unawaited()
            return result
        finally:
            if os.getpid() != process:
                core = sys.modules.get("ungil._core")
                if core is not None:
                    core.note_stray()
                os._exit(0)


class Logged:
    """Writes down who ran a task when."""

    def __init__(self, call: Call) -> None:
        self.call = call

    def __call__(self, item: object) -> Record:
        import threading

        # Only a process that has the module can have another name than the main one.
        multiprocessing = sys.modules.get("multiprocessing")
        process = multiprocessing.current_process().name if multiprocessing else "MainProcess"
        thread = threading.current_thread().name
        start_ns = time.monotonic_ns()
        result = self.call(item)
        return result, os.getpid(), process, thread, start_ns, time.monotonic_ns()


class _ThreadLoop:
    """Closes an event loop when its thread, and what is local to that, ends."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self.runner = runner

    def __del__(self) -> None:
        self.runner.close()


_thread_state: Any = None


def _thread_runner() -> asyncio.Runner:
    global _thread_state
    import asyncio
    import threading

    if _thread_state is None:
        _thread_state = threading.local()
    loop: _ThreadLoop | None = getattr(_thread_state, "loop", None)
    if loop is None:
        loop = _thread_state.loop = _ThreadLoop(asyncio.Runner())
    return loop.runner


_threads: dict[int, ThreadPoolExecutor] = {}


def run_in_threads(call: Call, items: Sequence[Any], first: int, workers: int) -> list[Any]:
    """Runs some tasks in threads of this worker process, which keeps them for the next tasks.

    Args:
        call: The task's function.
        items: One item a task.
        first: Position of the first of these tasks among all.
        workers: Threads to use.

    Returns:
        The results, in the order of the items. An exception says which task it comes from, as
        ``ungil_task``.
    """
    from concurrent.futures import ThreadPoolExecutor

    executor = _threads.get(workers)
    if executor is None:
        executor = _threads[workers] = ThreadPoolExecutor(workers)
    return gather(executor.map(call, items), first)


def gather(results: Iterable[Any], first: int = 0) -> list[Any]:
    """Collects results; an exception says which task it comes from, as ``ungil_task``.

    Args:
        results: The results, in the order of the tasks.
        first: Position of the first of these tasks among all.
    """
    collected: list[Any] = []
    try:
        for result in results:
            collected.append(result)
    except BaseException as error:
        note_task(error, first + len(collected))
        raise
    return collected


def note_task(error: BaseException, task: int) -> None:
    """Leaves the position of the task that failed on its exception."""
    # Exceptions with __slots__ take no attribute; the message then names no task.
    try:
        error.ungil_task = task  # type: ignore[attr-defined]
    except (AttributeError, TypeError):
        return


def set_search_path(path: Sequence[str]) -> None:
    """Lets a worker find the modules that its caller finds."""
    sys.path[:] = path


def do_nothing(item: object = None) -> None:
    """A task whose time is all overhead."""


def hold(seconds: float) -> tuple[int, int, int]:
    """Keeps its worker busy so that the next task needs another one.

    Args:
        seconds: How long.

    Returns:
        Process, thread, and the monotonic time in ns at which the worker began.
    """
    import threading

    began_ns = time.monotonic_ns()
    time.sleep(seconds)
    return os.getpid(), threading.get_ident(), began_ns


shared: dict[str, int] = {}
"""The variable through which sharing is probed."""


def write_shared(token: int) -> None:
    """Changes the variable as a worker."""
    shared["worker"] = token


def read_shared(item: object = None) -> int | None:
    """Reads, as a worker, what the caller changed."""
    return shared.get("caller")
