"""What a command may not leave behind: processes, shared memory and temporary files."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

VARIABLE = "UNGIL_TEST_TOKEN"

# Processes that were told to end may take a moment, on a machine that others use too.
_PATIENCE_S = 8.0


def wait_until(holds: Callable[[], bool], what: str, patience_s: float = 30.0) -> None:
    """Waits for a condition that another process brings about; fails the test if it never does."""
    give_up_at = time.monotonic() + patience_s
    while not holds():
        if time.monotonic() > give_up_at:
            pytest.fail(f"waited {patience_s:.0f} s in vain until {what}")
        select.select([], [], [], 0.005)


def parent_of(pid: int) -> int | None:
    """The parent of a process, ``None`` if it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[1])


class Leftovers:
    """Marks everything that a command starts, and finds what it left when it should be gone.

    Attributes:
        temporary: The folder that the command is given for temporary files.
    """

    def __init__(self, temporary: Path) -> None:
        self.temporary = temporary
        self._mark = uuid.uuid4().hex
        self._shared_memory = set(os.listdir("/dev/shm"))

    def environment(self) -> dict[str, str]:
        """The variables that mark the command and everything it starts."""
        return {VARIABLE: self._mark, "TMPDIR": str(self.temporary)}

    def processes(self) -> list[int]:
        """The living processes that the command started, itself included."""
        mark = f"{VARIABLE}={self._mark}".encode()
        found = []
        for name in os.listdir("/proc"):
            # A process that ends meanwhile is none that lives; the dead have no environment.
            with contextlib.suppress(OSError):
                if name.isdigit() and mark in Path("/proc", name, "environ").read_bytes():
                    found.append(int(name))
        return found

    def children(self, parent: int) -> list[int]:
        """Those of the processes that have this parent."""
        return [pid for pid in self.processes() if parent_of(pid) == parent]

    def check(self) -> None:
        """Fails the test, and cleans up, if anything is left."""
        give_up_at = time.monotonic() + _PATIENCE_S
        while (left := self._left()) and time.monotonic() < give_up_at:
            select.select([], [], [], 0.01)
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if left:
            pytest.fail("left behind: " + "; ".join(left))

    def _left(self) -> list[str]:
        processes = [f"process {pid} ({_command(pid)})" for pid in self.processes()]
        memory = self._new_shared_memory()
        if memory and not processes:
            # What somebody alive uses is not the command's, of which nobody is.
            memory = [path for path in memory if not _is_mapped(path)]
        return [*processes, *memory, *map(str, self.temporary.iterdir())]

    def _new_shared_memory(self) -> list[str]:
        return [f"/dev/shm/{name}" for name in set(os.listdir("/dev/shm")) - self._shared_memory]


def _is_mapped(path: str) -> bool:
    """Whether some living process uses this shared memory."""
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit() and path.encode() in Path("/proc", name, "maps").read_bytes():
                return True
    return False


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:200]
    except OSError:
        return "ended"
