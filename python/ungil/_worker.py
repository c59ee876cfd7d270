"""A worker process, from its start to its end."""

from __future__ import annotations

# What is imported here is imported before the first result that a program sees, and little is. What
# only some workers need they import when they need it, or the zygote when it has time.
import _locale  # noqa: F401
import _signal
import atexit
import gc  # noqa: F401
import marshal
import os
import resource  # noqa: F401
import sys
import time  # noqa: F401

from ungil import _core, _likeness
from ungil._postponed import postpone, when_run

# Many programs never ask for it in a worker, and it must know who the worker is when one does.
postpone("multiprocessing")
# It needs sockets, which take long to import, for what few workers do.
postpone("multiprocessing.reduction")

# Type checkers take this name for true; importing typing would slow every worker's start.
TYPE_CHECKING = False

if TYPE_CHECKING:
    import types
    from collections.abc import Callable, Iterable
    from typing import Any

    from ungil._pickling import Definition, Namespace


def run(start: _core.WorkerStart) -> int:
    """Runs tasks until the parent wants the worker to end.

    Returns:
        The exit code.
    """
    worker = start.open()
    seen = marshal.loads(worker.likeness)
    is_fork = "inherited" in seen
    if is_fork:
        _leave_parent()
    else:
        _likeness.resemble(seen)
        _likeness.make_main(seen["main"])
    _identify(seen)
    _handle_interrupts(is_fork)
    if not _initialize(worker, seen):
        return _finish(1)
    worker.ready(_define, _flush)
    # Without a thread of its own for each, tasks run in the main thread, as signals want it.
    threads = _start_threads(worker, seen["threads"] - 1)
    worker.run()
    for thread in threads:
        thread.join()
    return _finish(0)


def _start_threads(worker: _core.WorkerProcess, count: int) -> list[Any]:
    if count == 0:
        return []
    import threading

    threads = [
        threading.Thread(target=worker.run, name=f"ungil-worker_{number}", daemon=True)
        for number in range(1, count + 1)
    ]
    for thread in threads:
        thread.start()
    return threads


_namespaces: dict[str, Namespace] = {}


def _define(definitions: Iterable[Definition]) -> None:
    """Brings definitions into this worker's ``__main__``."""
    namespace = _namespaces.get("__main__")
    if namespace is None:
        from ungil._pickling import Namespace

        # Threads may come here at the same time. All of them get the same one.
        namespace = _namespaces.setdefault("__main__", Namespace(sys.modules["__main__"]))
    namespace.apply(definitions)


def _identify(seen: dict[str, Any]) -> None:
    """What ``multiprocessing`` says of this process, whenever it will be asked."""
    # A fork of this process may be the first to ask, and would have other numbers.
    pid, zygote = os.getpid(), os.getppid()

    def identify() -> None:
        _identify_now(seen, pid, zygote)

    # Threads of one worker could use it at the same time, and each wait for the other.
    if seen["threads"] > 1 or not when_run("multiprocessing", identify):
        identify()


def _identify_now(seen: dict[str, Any], pid: int, zygote: int) -> None:
    import multiprocessing.process

    process = multiprocessing.process
    this: Any = process.BaseProcess(name=f"UngilProcess-{pid}")
    this._popen = None
    this._config["authkey"] = process.AuthenticationString(seen["authkey"])  # type: ignore[attr-defined]
    this._parent_pid = seen["parent_pid"]
    this._parent_name = seen["parent_name"]
    process._current_process = this  # type: ignore[attr-defined]
    process._children = set()  # type: ignore[attr-defined]
    process._parent_process = process._ParentProcess(  # type: ignore[attr-defined]
        seen["parent_name"], seen["parent_pid"], _above_standard(os.pidfd_open(zygote))
    )
    if seen.get("start_method"):
        multiprocessing.set_start_method(seen["start_method"], force=True)
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None:
        util._finalizer_registry.clear()
        util._run_after_forkers()


def _above_standard(descriptor: int) -> int:
    """The descriptor under a number that is none of a standard stream's, which may be absent."""
    if descriptor > 2:
        return descriptor
    import fcntl

    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(descriptor)


def _leave_parent() -> None:
    """What a fork must not do for its parent."""
    atexit._clear()
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None:
        atexit.register(util._exit_function)


def _handle_interrupts(is_fork: bool) -> None:
    """Ctrl-C ends the task that runs, and no worker that waits."""
    handler = _signal.getsignal(_signal.SIGINT)
    if handler == _signal.SIG_IGN:
        # The program ignores it, as one does that was started in the background.
        return
    if is_fork and handler not in (_signal.default_int_handler, _signal.SIG_DFL):
        # The program has a handler of its own, and this is a fork of it.
        return

    def handle(number: int, frame: types.FrameType | None) -> None:
        if _core.WorkerProcess.is_running_task():
            raise KeyboardInterrupt

    _signal.signal(_signal.SIGINT, handle)


def _initialize(worker: _core.WorkerProcess, seen: dict[str, Any]) -> bool:
    """Calls the initializer, if there is one."""
    try:
        initializer: Callable[..., object] | None
        if "inherited" in seen:
            initializer, arguments = _likeness._inherited[seen["inherited"]]
        elif seen["initializer"] is None:
            return True
        else:
            import pickle

            definitions, function, more, pickled = seen["initializer"]
            _likeness.InheritedDescriptor.received = worker.take_descriptors()
            _define((*definitions, *more))
            initializer, arguments = pickle.loads(function), pickle.loads(pickled)
            for descriptor in _likeness.InheritedDescriptor.received:
                os.close(descriptor)
        if initializer is not None:
            initializer(*arguments)
    except BaseException as error:
        from concurrent.futures._base import LOGGER

        LOGGER.critical("Exception in initializer:", exc_info=True)
        worker.fail(f"its initializer failed: {type(error).__qualname__}: {error}")
        return False
    return True


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _finish(code: int) -> int:
    """What an interpreter does at its end, as far as a fork may do it."""
    coroutines: Any = sys.modules.get("ungil._coroutines")
    if coroutines is not None:
        coroutines.close()
    threading: Any = sys.modules.get("threading")
    if threading is not None:
        threading._shutdown()
    atexit._run_exitfuncs()
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None:
        # It does nothing if it was among them.
        util._exit_function()
    try:  # noqa: SIM105, for contextlib takes long to import
        _flush()
    except (OSError, ValueError):
        pass
    return code
