"""Arguments and functions of many kinds, for what it costs to send them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ungil_bench import work


@dataclass
class Order:
    """A dataclass of a module."""

    number: int
    customer: str
    total: float


# What a user's script would define.
_OF_MAIN = """
from dataclasses import dataclass

@dataclass
class Reading:
    number: int
    sensor: str
    value: float
"""


def _of_main() -> tuple[Any, Any]:
    main = vars(sys.modules["__main__"])
    if "Reading" not in main:
        exec(_OF_MAIN, main)
    return work.nothing, main["Reading"](7, "north", 0.5)


def _array(size: int) -> tuple[Any, Any]:
    import numpy

    return work.nothing, numpy.ones(size, numpy.uint8)


def _closure() -> tuple[Any, Any]:
    table = bytes(100_000)

    def look_up(item: int) -> int:
        return table[item]

    return look_up, 7


KINDS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "int": lambda: (work.nothing, 7),
    "str": lambda: (work.nothing, "a text of some thirty characters"),
    "tuple": lambda: (work.nothing, (7, "north", 0.5)),
    "dict": lambda: (work.nothing, {"number": 7, "sensor": "north", "value": 0.5}),
    "dataclass of a module": lambda: (work.nothing, Order(7, "north", 0.5)),
    "dataclass of __main__": _of_main,
    "array of 1 KiB": lambda: _array(1 << 10),
    "array of 32 KiB": lambda: _array(1 << 15),
    "array of 1 MiB": lambda: _array(1 << 20),
    "lambda": lambda: (lambda item: item, 7),
    "closure over 100 kB": _closure,
}
