"""Threads, processes, both, or asyncio? ungil measures your function and says which, and why.

>>> from ungil import compare                                              # doctest: +SKIP
>>> print(compare(work, items))                                            # doctest: +SKIP

The command ``ungil compare path.py:function --items 'range(64)'`` does the same from a terminal.
"""

from __future__ import annotations

import sys

# Type checkers take this name for true; importing typing would slow every worker's start.
TYPE_CHECKING = False

if not sys.platform.startswith("linux"):
    raise ImportError(f"ungil runs on Linux so far, and this is {sys.platform}.")

if TYPE_CHECKING:
    from ungil._arrays import empty as empty
    from ungil._compare import compare as compare
    from ungil._processes import ProcessPoolExecutor as ProcessPoolExecutor
    from ungil._threads import ThreadPoolExecutor as ThreadPoolExecutor
    from ungil.errors import TransferFailed as TransferFailed
    from ungil.errors import WorkerCrashed as WorkerCrashed
    from ungil.report import Report as Report

__version__ = "0.1.0"

__all__ = [
    "ProcessPoolExecutor",
    "Report",
    "ThreadPoolExecutor",
    "TransferFailed",
    "WorkerCrashed",
    "__version__",
    "compare",
    "empty",
]

# Worker processes and subinterpreters import this package to find the functions they run. They
# must not pay for the rest of it, and a subinterpreter could not even load the Rust core.
_HOMES = {
    "ProcessPoolExecutor": "ungil._processes",
    "Report": "ungil.report",
    "ThreadPoolExecutor": "ungil._threads",
    "TransferFailed": "ungil.errors",
    "WorkerCrashed": "ungil.errors",
    "compare": "ungil._compare",
    "empty": "ungil._arrays",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'ungil' has no attribute {name!r}")
    __import__(home)
    value = getattr(sys.modules[home], name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
