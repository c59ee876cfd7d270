"""What the kernel says of processes: who belongs to whom, CPU time, wake-ups, memory."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

# A thread's CPU clock, named by its number: see clock_getres(2) and posix-timers.h. It counts
# nanoseconds, where /proc counts hundredths of a second.
_CPU_CLOCK_OF_THREAD = 0b110


def usable_cpus() -> int:
    return len(os.sched_getaffinity(0))


def descendants(root: int) -> list[int]:
    """The living processes below one, itself excluded."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path("/proc", name, "stat").read_text()
            except OSError:
                continue
            state, parent = stat.rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(name))
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


@dataclass(frozen=True)
class Activity:
    """What threads have done since they were started.

    Attributes:
        cpu_s: CPU time, in seconds.
        switches: How often one was put aside: it went to sleep, or had to make room. Each time it
            was also woken, or given its turn again.
    """

    cpu_s: float
    switches: int

    def __sub__(self, other: Activity) -> Activity:
        return Activity(self.cpu_s - other.cpu_s, self.switches - other.switches)


def activity(processes: Iterable[int], without_thread: int) -> Activity:
    """The activity of all threads of some processes, except one that only measures."""
    cpu_s = 0.0
    switches = 0
    for thread, status in _threads(processes):
        if thread != without_thread:
            try:
                cpu_s += time.clock_gettime(~thread << 3 | _CPU_CLOCK_OF_THREAD)
            except OSError:
                continue
            switches += sum(
                int(line.rpartition("\t")[2])
                for line in status.splitlines()
                if "ctxt_switches" in line
            )
    return Activity(cpu_s, switches)


def _threads(processes: Iterable[int]) -> Iterator[tuple[int, str]]:
    for process in processes:
        folder = Path("/proc", str(process), "task")
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        for name in names:
            try:
                yield int(name), (folder / name / "status").read_text()
            except OSError:
                continue


@dataclass(frozen=True)
class OwnMemory:
    """Memory that a process shares with nobody, in bytes.

    Attributes:
        total: All of it: what would be free if the process ended.
        anonymous: Its heap, stacks and whatever else has no file: the interpreter's objects and
            everybody else's.
        files: Private pages of files: written data of the interpreter and of libraries, and code
            that only this process has mapped.
        shared: Memory made for sharing that nobody else has mapped.
    """

    total: int
    anonymous: int
    files: int
    shared: int


_PRIVATE = ("Private_Clean:", "Private_Dirty:")
_MADE_FOR_SHARING = ("/memfd:", "/dev/shm/", "/dev/zero", "/SYSV")


def own_memory(process: int) -> OwnMemory:
    """What the kernel counts as private in each mapping of a process."""
    total = sum(_private(Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()))
    parts = {"anonymous": 0, "files": 0, "shared": 0}
    part = "anonymous"
    for line in Path(f"/proc/{process}/smaps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if "-" in fields[0] and not fields[0].endswith(":"):
            name = fields[5] if len(fields) > 5 else ""
            if name.startswith(_MADE_FOR_SHARING):
                part = "shared"
            else:
                part = "files" if name.startswith("/") else "anonymous"
        else:
            parts[part] += sum(_private([line]))
    return OwnMemory(total, **parts)


def _private(lines: list[str]) -> Iterator[int]:
    for line in lines:
        if line.startswith(_PRIVATE):
            yield int(line.split()[1]) * 1024


def resident_bytes() -> int:
    """This process's resident memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
