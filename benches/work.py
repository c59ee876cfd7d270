"""What the executors are given to run. Workers find it by its name, as they do a program's modules."""

from __future__ import annotations

PAGE = 4096

_kept = None


def nothing(*_: object) -> None:
    pass


def touch(array):
    """Reads every page, for memory that nobody has looked at may not have arrived yet."""
    return int(array[::PAGE].sum())


def keep(size: int) -> int:
    """Makes the array that ``kept`` returns, so that making it is not measured."""
    global _kept
    import numpy

    _kept = numpy.ones(size, numpy.uint8)
    return touch(_kept)


def kept():
    return _kept
