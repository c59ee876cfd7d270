"""The future of a task, as asyncio and the stdlib's functions want to see it."""

from __future__ import annotations

import threading
from concurrent.futures import Future as _StdlibFuture
from concurrent.futures._base import LOGGER

from ungil import _core

# Type checkers take this name for true; importing typing takes a program long that does not need it.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    _Base = _StdlibFuture[Any]
else:
    _Base = _StdlibFuture

__all__ = ["Future"]


_dictionary_of = _StdlibFuture.__dict__["__dict__"].__get__


class Future(_core.LazyFuture, _Base):
    """The outcome of a task that was submitted to an executor.

    It is a ``concurrent.futures.Future``. Executors make it; a program does not.
    """

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        # Whoever has it may put something there that refers back to the future.
        self._show()
        attributes: dict[str, Any] = _dictionary_of(self)
        return attributes


def start_announcer() -> list[threading.Thread]:
    """Starts the threads that tell ``wait``, asyncio and callbacks of a task's end."""
    threads = [
        threading.Thread(target=_core.run_announcements, name="ungil-announcer", daemon=True),
        threading.Thread(target=_core.run_callbacks, name="ungil-callbacks", daemon=True),
    ]
    for thread in threads:
        thread.start()
    return threads


def log_callback_error(future: Future, error: BaseException) -> None:
    """Logs what a callback raised, as the stdlib does."""
    LOGGER.error("exception calling callback for %r", future, exc_info=error)
