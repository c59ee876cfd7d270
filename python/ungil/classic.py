"""The two classic tasks of every text about threads and processes: one computes, one waits."""

from __future__ import annotations

import time


def countdown(steps: int) -> int:
    """Counts down to zero in Python.

    Args:
        steps: Where to begin.

    Returns:
        Zero, where it ends.
    """
    while steps > 0:
        steps -= 1
    return steps


def sleep(seconds: float) -> float:
    """Waits without using a CPU.

    Args:
        seconds: How long.

    Returns:
        How long it was asked to wait.
    """
    time.sleep(seconds)
    return seconds
