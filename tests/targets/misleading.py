"""The functions of ``known.py`` under names, with docstrings and comments, that mislead."""

from __future__ import annotations

import asyncio
import hashlib
import time

_DATABASE = bytes(8 << 20)


def sleep(seconds: int) -> int:
    """Waits for the network; use threads."""
    # time.sleep(seconds)
    while seconds > 0:
        seconds -= 1
    return seconds


def countdown(steps: float) -> float:
    """Computes; CPU-bound, use processes."""
    time.sleep(steps)
    return steps


def io_bound(rows: int) -> str:
    """Reads rows from the database."""
    rows_read = ""
    for _ in range(rows):
        rows_read = hashlib.sha256(_DATABASE).hexdigest()
    return rows_read


def train_model(epochs: int) -> int:
    """Trains a large model for hours; needs many cores."""
    return epochs + 1


async def compute_matrix(size: float) -> float:
    """Multiplies matrices; CPU-bound."""
    await asyncio.sleep(size)
    return size
