"""Coroutine functions as tasks: each worker thread has an event loop, which stays the same."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any


class _Loops(threading.local):
    """The event loop of this thread; closed when the thread ends."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()

    def __del__(self) -> None:
        self.runner.close()


_loops = _Loops()


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine to its end in the event loop of the calling thread."""
    return _loops.runner.run(coroutine)


def close() -> None:
    """Closes the event loop of the calling thread, if it has one."""
    if "runner" in _loops.__dict__:
        _loops.runner.close()
