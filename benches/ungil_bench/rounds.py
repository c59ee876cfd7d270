"""Medians that claim no distribution, and a loop that notices when the machine has other work."""

from __future__ import annotations

import hashlib
import math
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

# Hashing frees Python's lock, so every CPU can be asked at once whether it is free.
_BLOCK = bytes(4 << 20)
# A sample is disturbed if the loop took so many times its fastest, before or after it.
DISTURBED = 1.25


@dataclass(frozen=True)
class Median:
    """The median of some values and where that of all values lies.

    Attributes:
        median: The median.
        low: Lower end of the interval.
        high: Upper end.
        coverage: How probable it is that such an interval holds the true median, whatever the
            distribution: with few values even the whole range cannot reach 0.95.
    """

    median: float
    low: float
    high: float
    coverage: float


def median(values: Sequence[float], wanted: float = 0.95) -> Median:
    """The median, and the narrowest interval between two values that holds it often enough."""
    ordered = sorted(values)
    count = len(ordered)
    cut = 0
    while 2 * (cut + 1) < count and _coverage(count, cut + 1) >= wanted:
        cut += 1
    middle = (ordered[count // 2] + ordered[(count - 1) // 2]) / 2
    return Median(middle, ordered[cut], ordered[count - 1 - cut], _coverage(count, cut))


def _coverage(count: int, cut: int) -> float:
    """How probable it is that a median lies within, with so many values cut off at each end."""
    outside = sum(math.comb(count, below) for below in range(cut + 1)) / 2**count
    return max(0.0, 1 - 2 * outside)


def calibrate() -> float:
    """Seconds that a fixed amount of work takes on every usable CPU at once."""
    threads = [
        threading.Thread(target=hashlib.sha256, args=(_BLOCK,))
        for _ in range(len(os.sched_getaffinity(0)))
    ]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started
