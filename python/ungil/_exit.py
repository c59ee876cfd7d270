"""The end of the interpreter: what was submitted is run first, as the stdlib's executors do."""

from __future__ import annotations

import threading
from collections.abc import Callable

is_exiting = False


class Closing:
    """How one executor is closed.

    The object outlives its executor until the executor's work is done.
    """

    def __init__(
        self,
        close: Callable[[], object],
        wait: Callable[[], object],
        is_over: Callable[[], bool],
    ) -> None:
        self.close = close
        self.wait = wait
        self.is_over = is_over


_closings: set[Closing] = set()


def register(closing: Closing) -> None:
    """Closes an executor at the end of the interpreter, unless it is closed before."""
    # Here, and not when an executor ends: that happens in threads without Python.
    for other in [other for other in list(_closings) if other.is_over()]:
        _closings.discard(other)
    _closings.add(closing)


def unregister(closing: Closing) -> None:
    """The executor was closed and has ended; what it holds can go."""
    _closings.discard(closing)


def _end() -> None:
    global is_exiting

    is_exiting = True
    from ungil import _core

    _core.take_no_calls()
    closings = list(_closings)
    for closing in closings:
        closing.close()
    for closing in closings:
        closing.wait()
    _core.flush_announcements()


# Before the interpreter joins its threads, and before its exit handlers.
threading._register_atexit(_end)  # type: ignore[attr-defined]
