"""The kinds of executors that keep the contract. Here, and only here, they are made."""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass
from typing import Any

import ungil


@dataclass(frozen=True)
class Kind:
    """One way to run tasks.

    Attributes:
        name: What the tests are named after.
        method: How processes are started, as multiprocessing names it; ``None`` for the default.
    """

    name: str
    method: str | None = None

    @property
    def has_processes(self) -> bool:
        """Whether tasks run in other processes."""
        return self.name != "threads"

    @property
    def is_fork(self) -> bool:
        """Whether workers are forked from this process, all of them with the first task."""
        return self.method == "fork"

    @property
    def class_(self) -> type[Any]:
        """The class of the executors."""
        return ungil.ProcessPoolExecutor if self.has_processes else ungil.ThreadPoolExecutor

    def make(self, max_workers: int | None = 1, **options: Any) -> Any:
        """An executor of this kind."""
        return self.class_(max_workers, **self.options(), **options)

    def options(self) -> dict[str, Any]:
        """The arguments that make an executor one of this kind."""
        if self.method is None:
            return {}
        return {"mp_context": multiprocessing.get_context(self.method)}

    def source(self) -> str:
        """A script's definition of ``make``, which does the same."""
        return f"""
import multiprocessing
import ungil

METHOD = {self.method!r}

def make(max_workers=1, **options):
    if METHOD is not None:
        options["mp_context"] = multiprocessing.get_context(METHOD)
    return ungil.{self.class_.__name__}(max_workers, **options)
"""


THREADS = Kind("threads")
PROCESSES = [
    Kind("processes-zygote"),
    Kind("processes-fork", "fork"),
    Kind("processes-spawn", "spawn"),
]
KINDS = [THREADS, *PROCESSES]


def find(name: str) -> Kind:
    """The kind of this name."""
    (found,) = [kind for kind in KINDS if kind.name == name]
    return found
