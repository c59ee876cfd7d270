"""The process that forks workers, and the workers that it executes."""

from __future__ import annotations

import gc
import os
import sys


def main(arguments: list[str]) -> None:
    """Serves as a zygote, or becomes a worker.

    Args:
        arguments: ``fork`` or ``spawn`` with the master socket and the parent's pidfd, or
            ``worker`` with the descriptors of a worker.
    """
    mode, *numbers = arguments
    sys.argv[:] = [""]
    from ungil import _core

    if mode == "worker":
        from ungil import _worker

        _end(_worker.run, _core.WorkerStart([int(number) for number in numbers]))
    _ignore_interrupts()
    if mode == "fork":
        from ungil import _worker  # noqa: F401, so that workers have it

        # Nothing of what there is now is ever freed, so nobody need look through it, or write to
        # its pages: they stay shared.
        gc.collect()
        gc.freeze()
        if not _has_one_thread():
            # Something that is imported at start-up has started threads. A fork of such a
            # process may hold any lock for ever.
            mode = "spawn"
    master, parent = (int(number) for number in numbers)
    start = _core.serve_zygote(master, parent)
    if start is None:
        os._exit(0)
    if mode == "spawn":
        _execute(start)
    from ungil import _worker

    _end(_worker.run, start)


def serve_forked(master: int, parent: int) -> None:
    """Serves as a zygote that is itself a fork of the user's process. Does not return."""
    from ungil import _core, _worker

    try:
        start = _core.serve_zygote(master, parent)
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


def _execute(start) -> None:  # type: ignore[no-untyped-def]
    from ungil._likeness import interpreter_command

    numbers = [str(number) for number in start.take_descriptors()]
    command = interpreter_command(["worker", *numbers])
    try:
        os.execv(command[0], command)
    finally:
        os._exit(127)


def _ignore_interrupts() -> None:
    # A handler, and not "ignore": that would be handed down to whatever a worker executes.
    import signal

    signal.signal(signal.SIGINT, lambda number, frame: None)


def _has_one_thread() -> bool:
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return True
