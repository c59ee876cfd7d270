"""What the figures were measured on, and with."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from ungil_bench.process import FOLDER
from ungil_bench.readings import usable_cpus


def machine() -> dict[str, Any]:
    """The processor, the memory and the kernel."""
    memory_kib = _value("/proc/meminfo", "MemTotal")
    return {
        "cpu": _value("/proc/cpuinfo", "model name") or platform.processor() or "unknown",
        "cpus": os.cpu_count(),
        "usable_cpus": usable_cpus(),
        "memory_bytes": int(memory_kib.split()[0]) * 1024 if memory_kib else None,
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def versions(of_peers: dict[str, str]) -> dict[str, str]:
    """What was measured, with what it runs on."""
    found = {"Python": f"{platform.python_implementation()} {platform.python_version()}"}
    found["C library"] = " ".join(platform.libc_ver())
    for name in ("ungil", "cloudpickle", "numpy"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    if commit := _commit():
        found["ungil"] += f" ({commit})"
    return {**found, **{name: version for name, version in of_peers.items() if name not in found}}


def command() -> str:
    """The command that measured, as it can be given again in the folder of the project."""
    script = Path(sys.argv[0]).name
    return shlex.join(["python", f"benches/{script}", *sys.argv[1:]])


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _commit() -> str | None:
    """The commit of the working tree, and whether it had been changed since.

    The page and its figures do not count: one benchmark writes them before another one runs.
    """
    changes = ["status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)docs"]
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        return f"{commit}, changed" if _git(*changes) else commit
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(FOLDER), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _value(path: str, key: str) -> str | None:
    for line in Path(path).read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None
