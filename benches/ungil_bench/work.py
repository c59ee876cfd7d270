"""What the executors are given to run. Workers find it by its name, as they do a program's modules."""

from __future__ import annotations

import os
import time

PAGE = 4096

_kept: dict[str, object] = {}


def nothing(*_: object) -> None:
    pass


def identity(*_: object) -> int:
    """The process that ran the call."""
    return os.getpid()


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def spin(loops: int) -> None:
    """Computes in Python, holding its lock, in proportion to ``loops``."""
    while loops > 0:
        loops -= 1


def length(payload: bytes) -> int:
    return len(payload)


def payload(size: int) -> bytes:
    """Bytes that are made once, so that making them is not measured."""
    kept = _kept.get("bytes")
    if not isinstance(kept, bytes) or len(kept) != size:
        kept = _kept["bytes"] = bytes(size)
    return kept


def touch(array):
    """Reads every page, for memory that nobody has looked at may not have arrived yet.

    Returns the sum and how many seconds the reading took, wherever it happened.
    """
    started = time.perf_counter()
    total = int(array[::PAGE].sum())
    return total, time.perf_counter() - started


def array(size: int):
    """An array that is made once, so that making it is not measured."""
    if "array" not in _kept:
        import numpy

        _kept["array"] = numpy.ones(size, numpy.uint8)
    return _kept["array"]


def shared_array(size: int):
    """The same, in memory that ungil shares with its workers."""
    if "shared" not in _kept:
        import ungil

        _kept["shared"] = ungil.empty((size,), "uint8")
        _kept["shared"][:] = 1
    return _kept["shared"]
