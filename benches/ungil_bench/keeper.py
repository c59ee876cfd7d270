"""Runs a command and lets nothing that it started outlive it, or the benchmark.

    keeper.py LIFELINE CGROUP SCRATCH COMMAND...

LIFELINE is a descriptor to read from: when nobody holds its other end any more, everything is ended.
CGROUP is the folder of a control group that the command shall run in, or empty. SCRATCH is a folder
for whatever it writes, which is removed at the end.

Whatever the command started, however detached, becomes a child of the keeper when its own parent ends,
for the keeper is a subreaper. So when it has no children any more nothing is left. It runs in an
interpreter of its own, because nothing of this may be seen in the process that is measured.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import sys
import time

_PR_SET_CHILD_SUBREAPER = 36
# How long the stdlib's and loky's resource trackers may take to end by themselves.
TRACKERS_S = 2.0


def main() -> int:
    lifeline, cgroup, scratch, *command = sys.argv[1:]
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "failed to become a subreaper")
    if cgroup:
        with open(os.path.join(cgroup, "cgroup.procs"), "w") as file:
            file.write(str(os.getpid()))
    os.set_inheritable(int(lifeline), False)
    # Ctrl-C is for the benchmark, which then lets go of the lifeline.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = os.posix_spawn(command[0], command, os.environ, setpgroup=0, setsigdef=[signal.SIGINT])
    # What the command writes is read until nobody can write any more: that is not for the keeper.
    os.close(0)
    os.close(1)
    ended = os.pidfd_open(child)
    select.select([int(lifeline), ended], [], [])
    code = 0
    trackers_end_by: float | None = None
    # Those that are ended may have children, which are then the keeper's.
    while children := _children():
        ending = [each for each in children if not _is_tracker(each)]
        if not ending:
            # Only now trackers see that nobody uses any more what they have to remove.
            trackers_end_by = trackers_end_by or time.monotonic() + TRACKERS_S
            if time.monotonic() < trackers_end_by and child not in children:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    time.sleep(0.005)
                continue
            ending = children
        for each in ending:
            # One that has ended keeps its number until it is waited for, so nobody else is hit.
            os.kill(each, signal.SIGKILL)
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
    shutil.rmtree(scratch, ignore_errors=True)
    return code if code >= 0 else 128 - code


def _is_tracker(process: int) -> bool:
    """Whether it removes named memory and semaphores when nobody uses them any more."""
    try:
        with open(f"/proc/{process}/cmdline", "rb") as file:
            return b"resource_tracker" in file.read()
    except OSError:
        return False


def _children() -> list[int]:
    """The keeper's own children that have not been waited for."""
    found = []
    own = os.getpid()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    stat = file.read()
            except OSError:
                continue
            if int(stat.rpartition(")")[2].split()[1]) == own:
                found.append(int(name))
    return found


if __name__ == "__main__":
    sys.exit(main())
