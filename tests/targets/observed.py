"""Functions that write down how they are called."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

SIZES = [128, 256]


@dataclass
class Order:
    number: int


def orders() -> list[Order]:
    return [Order(1), Order(2)]


def _note(text: str) -> None:
    """Appends a line; whatever runs meanwhile, lines stay whole and none is lost."""
    path = os.environ["UNGIL_TEST_CALLS"]
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, text.encode() + b"\n")
    os.close(file)


def note_call(*args: object, **kwargs: object) -> int:
    _note(repr((args, kwargs)))
    return 0


def note_one(item: object) -> int:
    _note(repr(item))
    return 0


async def note_one_async(item: object) -> int:
    _note(repr(item))
    return 0


def naps(item: int) -> int:
    _note(str(item))
    time.sleep(0.02)
    return item
