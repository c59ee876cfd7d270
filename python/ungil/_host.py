"""The process in which a function is measured: a keeper, and the host that it forks.

The keeper ends every process that the function leaves behind; see ``keeper.rs``. The host
imports the function and serves the experiment.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress


def main() -> None:
    """Becomes the keeper, forks the host, and serves until the experiment hangs up.

    The channel is descriptor 0; the experiment's process number is the last argument.
    """
    from ungil import _core

    experiment = int(sys.argv[-1])
    sys.argv[:] = [""]
    _core.prepare_keeper()
    keeper = os.getpid()
    # This process has run nothing but this function so far and has one thread.
    host = os.fork()
    if host:
        _core.keep(host, experiment)
    _core.die_with_parent(keeper)
    channel = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    os.register_at_fork(before=_note_forking_thread, after_in_child=_die_with_host)

    from ungil._workload import Workload

    code = _core.serve(channel, Workload(), keeper)
    with suppress(OSError, ValueError):
        # The function may have closed it.
        sys.stdout.flush()
    _remove_temporary_folder()
    # Pools that a failed task left blocked must not keep the host alive.
    os._exit(code)


def _remove_temporary_folder() -> None:
    """Removes the folder in which the stdlib's fork server listens, as its exit handler would."""
    process = sys.modules.get("multiprocessing.process")
    folder = process.current_process()._config.get("tempdir") if process else None
    if folder is not None:
        from shutil import rmtree

        rmtree(folder, ignore_errors=True)


_is_main_thread_forking = False


def _note_forking_thread() -> None:
    global _is_main_thread_forking
    # A thread that is not the main one may end, and its children would die with it.
    _is_main_thread_forking = threading.current_thread() is threading.main_thread()


def _die_with_host() -> None:
    """Ends workers with the host even if keeper and experiment have been killed as well."""
    from ungil import _core

    if _is_main_thread_forking:
        _core.die_with_parent(os.getppid())
