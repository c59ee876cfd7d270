"""The process that forks workers, and the workers that it executes."""

from __future__ import annotations

import _signal
import gc
import os
import sys

# Type checkers take this name for true; importing typing would slow every worker's start.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any


def main(arguments: list[str]) -> None:
    """Serves as a zygote, or becomes a worker.

    Args:
        arguments: ``fork`` or ``spawn``, with the master socket in the place of the standard input,
            or ``worker`` with the descriptors of a worker.
    """
    mode, *numbers = arguments
    # Hardly anything of what is imported is ever freed, so looking for it takes time in vain.
    is_collecting = gc.isenabled()
    gc.disable()
    sys.argv[:] = [""]
    from ungil import _core, _likeness

    if mode == "worker":
        from ungil import _worker

        if is_collecting:
            gc.enable()
        _end(_worker.run, _core.WorkerStart([int(number) for number in numbers]))
    master = _core.take_master()
    hang_up = _stay()
    if mode == "fork":
        # So that workers have it.
        from ungil import _worker

        # And nobody in a worker need look through it, or write to its pages: they stay shared.
        gc.freeze()
        if not _has_one_thread():
            # Something that is imported at start-up has started threads. A fork of such a
            # process may hold any lock for ever.
            mode = "spawn"
    if is_collecting:
        gc.enable()
    # What is needed to execute one is looked up before: threads may hold the locks for it then.
    command = _likeness.interpreter_command(["worker"]) if mode == "spawn" else []
    # Whoever reads what the program prints to it waits for its end until all have closed it.
    os.dup2(1, 2)
    start = _core.serve_zygote(master, _import_next if mode == "fork" else _nothing_to_do)
    if start is None:
        os._exit(0)
    if mode == "spawn":
        _execute(start, command)
    _signal.signal(_signal.SIGHUP, hang_up)
    _end(_worker.run, start)


def flush_streams() -> None:
    """Writes what this process has printed: a fork of it would have it too, and write it again."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            continue  # there is none, or it was closed


def serve_forked(master: int) -> None:
    """Serves as a zygote that is itself a fork of the user's process. Does not return."""
    from ungil import _core, _worker

    try:
        start = _core.serve_zygote(master, _nothing_to_do)
        if start is None:
            os._exit(0)
        _end(_worker.run, start)
    finally:
        os._exit(1)


def _end(run, start) -> None:  # type: ignore[no-untyped-def]
    """Runs a worker to its end, and ends the process."""
    code = 1
    try:
        code = run(start)
    except SystemExit as exit:
        code = exit.code if isinstance(exit.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def _execute(start, command) -> None:  # type: ignore[no-untyped-def]
    try:
        numbers = [str(number) for number in start.take_descriptors()]
        os.execv(command[0], [*command, *numbers])
    finally:
        os._exit(127)


def _stay() -> Any:
    """Lets signals go by that may end others of the group: the parent's end is this one's end.

    Returns:
        What SIGHUP did, which it shall do in workers. They handle SIGINT otherwise.
    """
    before = [_signal.getsignal(number) for number in (_signal.SIGINT, _signal.SIGHUP)]
    for number, handler in zip((_signal.SIGINT, _signal.SIGHUP), before, strict=True):
        # A handler, and not "ignore": that would be handed down to whatever a worker executes. But
        # the program may have been started so that it is ignored.
        if handler != _signal.SIG_IGN:
            _signal.signal(number, lambda number, frame: None)
    return before[1]


# What most workers come to import. The first of them are forked without it, for whoever starts them
# waits for a result; later ones find it in the memory that they share. Each after those that it
# imports, for a request may come between any two.
_LIKELY = [
    *("types", "operator", "keyword", "reprlib", "collections", "functools", "copyreg", "struct"),
    *("_compat_pickle", "_pickle", "ungil._pickling.loading", "ungil._pickling.pickler", "enum"),
    *("re._constants", "re._parser", "re._casefix", "re._compiler", "re", "pickle"),
    *("_weakrefset", "threading", "signal", "multiprocessing.process", "ungil._remote"),
]


def _import_next() -> bool:
    """Imports one more module for workers to come; says whether there are others."""
    try:
        __import__(_LIKELY.pop(0))
    except Exception:
        # Workers that import it will say what is wrong with it.
        return bool(_LIKELY)
    gc.freeze()
    return bool(_LIKELY)


def _nothing_to_do() -> bool:
    return False


def _has_one_thread() -> bool:
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return True
