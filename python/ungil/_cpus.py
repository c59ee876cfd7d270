"""How many CPUs the stdlib's executors count."""

from __future__ import annotations

import os
import sys


def count() -> int:
    """CPUs that this process may use, or, before Python 3.13, those of the machine."""
    if sys.version_info >= (3, 13):
        return os.process_cpu_count() or 1
    return os.cpu_count() or 1
