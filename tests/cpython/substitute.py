"""Puts our executors in the place of the stdlib's, in the process that imports this."""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import concurrent.futures.thread
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ungil

# The start of a script, so that the executors that it imports are ours.
PRELUDE = f"""\
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import substitute
substitute.install()
sys.path.pop(0)
"""


def install() -> None:
    """Replaces the stdlib's executors wherever they are imported from."""
    concurrent.futures.ThreadPoolExecutor = ungil.ThreadPoolExecutor  # type: ignore[misc]
    concurrent.futures.thread.ThreadPoolExecutor = ungil.ThreadPoolExecutor  # type: ignore[misc]
    concurrent.futures.ProcessPoolExecutor = ungil.ProcessPoolExecutor  # type: ignore[misc]
    concurrent.futures.process.ProcessPoolExecutor = ungil.ProcessPoolExecutor  # type: ignore[misc]


def install_in_scripts() -> None:
    """Makes the scripts that CPython's tests run begin with the same."""
    from test.support import script_helper

    real = script_helper.assert_python_ok

    def assert_python_ok(*arguments: str, **options: Any) -> Any:
        way, script = arguments
        assert way == "-c"
        return real(way, PRELUDE + script, **options)

    script_helper.assert_python_ok = assert_python_ok


def watch_machinery(seen: list[str]) -> None:
    """Notes each start of the stdlib's own machinery."""
    thread: Any = concurrent.futures.thread
    manager: Any = concurrent.futures.process._ExecutorManagerThread  # type: ignore[attr-defined]
    thread._worker = _noting(seen, "_worker", thread._worker)
    manager.start = _noting(seen, "_ExecutorManagerThread.start", manager.start)


def _noting(seen: list[str], name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def noted(*args: Any, **kwargs: Any) -> Any:
        seen.append(name)
        return real(*args, **kwargs)

    return noted
