"""Functions whose results are right, wrong or hard to compare."""

from __future__ import annotations

import itertools
import multiprocessing
import random
import threading
from typing import Any


def model() -> str:
    """The model that this runs under."""
    if multiprocessing.parent_process() is not None:
        return "processes"
    is_main = threading.current_thread() is threading.main_thread()
    return "serial" if is_main else "threads"


def wrong_in_threads(item: int) -> int:
    return item * 10 + (item == 3 and model() == "threads")


def wrong_in_processes(item: int) -> int:
    return item * 10 + (item == 3 and model() == "processes")


class NoEquality:
    def __init__(self, value: object) -> None:
        self.value = value


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


def not_a_number(item: int) -> dict[str, Any]:
    return {"mean": float("nan"), "parts": [item, complex("nan")]}


def objects(item: int) -> list[object]:
    return [NoEquality(float("nan")), Slotted(item), NoEquality([item])]


_calls = itertools.count()


def varies(item: int) -> float:
    return next(_calls)


def random_number(item: int) -> float:
    return random.random()
