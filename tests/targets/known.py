"""Functions whose best model is known, under their own names."""

from __future__ import annotations

import asyncio
import hashlib
import time

_BLOCK = bytes(8 << 20)


def countdown(steps: int) -> int:
    while steps > 0:
        steps -= 1
    return steps


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def hash_blocks(blocks: int) -> str:
    digest = ""
    for _ in range(blocks):
        digest = hashlib.sha256(_BLOCK).hexdigest()
    return digest


def increment(value: int) -> int:
    return value + 1


async def async_sleep(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds
