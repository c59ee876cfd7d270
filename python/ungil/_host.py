"""The process in which a function is measured: a keeper, and the host that it forks.

The keeper ends every process that the function leaves behind; see ``keeper.rs``. The host
imports the function and serves the experiment.
"""

from __future__ import annotations

import os
import sys


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

    from ungil._workload import Workload

    _core.serve(channel, Workload(), keeper)
    sys.stdout.flush()
    # Pools that a failed task left blocked must not keep the host alive.
    os._exit(0)
