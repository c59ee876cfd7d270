"""A control group with a CPU quota, if this machine lets one be made."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

PERIOD_US = 100_000


class Unavailable(Exception):
    """No control group can be made, and why."""


@contextlib.contextmanager
def cpu_quota(cpus: float) -> Iterator[Path]:
    """The folder of a control group whose processes get so many CPUs' time together at most.

    Raises:
        Unavailable: There is no controller, or no permission.
    """
    parent, is_v2 = _parent()
    folder = parent / f"ungil-bench-{os.getpid()}"
    quota_us = round(cpus * PERIOD_US)
    try:
        folder.mkdir()
    except OSError as error:
        raise Unavailable(f"no control group can be made in {parent}: {error.strerror}") from None
    try:
        try:
            if is_v2:
                (folder / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")
            else:
                (folder / "cpu.cfs_period_us").write_text(str(PERIOD_US))
                (folder / "cpu.cfs_quota_us").write_text(str(quota_us))
        except OSError as error:
            raise Unavailable(f"no quota can be set in {folder}: {error.strerror}") from None
        yield folder
    finally:
        _remove(folder)


def _parent() -> tuple[Path, bool]:
    """The group that this process is in, and whether it is one of version 2."""
    own = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            own["cgroup2"] = path
        elif "cpu" in controllers.split(","):
            own["cgroup"] = path
    mounted = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, system = line.partition(" - ")
        kind, _, options = system.split(" ", 2)
        if kind == "cgroup2" or (kind == "cgroup" and "cpu" in options.split(" ")[-1].split(",")):
            mounted[kind] = Path(fields.split()[4])
    # Where both are mounted, the first has the controller.
    for kind in ("cgroup", "cgroup2"):
        if kind in own and kind in mounted:
            parent = mounted[kind] / own[kind].lstrip("/")
            if kind == "cgroup2" and not _hands_down(parent):
                raise Unavailable(f"{parent} does not hand the cpu controller down")
            return parent, kind == "cgroup2"
    raise Unavailable("there is no control group with a cpu controller")


def _hands_down(parent: Path) -> bool:
    try:
        return "cpu" in (parent / "cgroup.subtree_control").read_text().split()
    except OSError:
        return False


def _remove(folder: Path) -> None:
    # Processes that have been waited for may be members a moment longer.
    give_up_at = time.monotonic() + 5
    while True:
        try:
            folder.rmdir()
            return
        except OSError:
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.01)
