"""Engines: whose executors run the tasks of a comparison.

An engine is an object with a ``name``, the ``models`` that it runs on this interpreter, and
``open``, which makes a pool. A pool that offers ``submit`` and ``map`` gets everything else from
[`Pool`][ungil.engines.Pool]. Engines are found by name in ``ENGINES``, or as ``module:attribute``;
each lives in a module of its own, which is imported only in the hosts that measure it.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from ungil import _tasks

if TYPE_CHECKING:
    from ungil._core import Ticker

__all__ = ["ENGINES", "HOLD_S", "Engine", "Handle", "Pool", "Setup", "find"]

ENGINES = {
    "python": "ungil.engines.python",
    "ungil": "ungil.engines.ungil_pools",
    "stdlib": "ungil.engines.stdlib",
    "multiprocessing": "ungil.engines.multiprocessing_pool",
}
"""Where each engine lives. ``python`` has the models that need no executor."""

HOLD_S = 0.01
"""How long a task keeps its worker busy while the others start."""


@dataclass(frozen=True, slots=True)
class Setup:
    """One way to run the tasks.

    Attributes:
        model: ``serial``, ``threads``, ``processes``, ``processes_threads``, ``asyncio`` or
            ``interpreters``.
        workers: Workers at once.
        threads_per_worker: Threads inside each worker.
        is_coroutine_function: Whether the tasks are coroutine functions.
    """

    model: str
    workers: int
    threads_per_worker: int
    is_coroutine_function: bool


class Handle(Protocol):
    """A task that has been submitted."""

    def done(self) -> bool:
        """Whether it has ended."""

    def result(self) -> Any:
        """Its result; raises its exception. Waits for its end."""


class Engine(Protocol):
    """Somebody's executors.

    One whose processes are not started as ``multiprocessing`` starts them may say how in a method
    ``start_method``, which returns a word.
    """

    name: str

    def models(self) -> list[str]:
        """The models that it runs on this interpreter."""

    def open(self, setup: Setup) -> Pool:
        """Makes a pool; its workers may still be starting."""


def find(name: str) -> Engine:
    """The engine of that name.

    Args:
        name: A name in ``ENGINES``, or ``module:attribute`` for an engine of somebody else's.

    Raises:
        LookupError: There is none; the message says which there are.
    """
    module, separator, attribute = name.partition(":")
    if not separator:
        module, attribute = ENGINES.get(name, ""), "ENGINE"
    if not module or not attribute:
        known = ", ".join(ENGINES)
        raise LookupError(
            f"there is no engine {name!r}; the engines are {known}, or module:attribute for one "
            "of your own"
        )
    try:
        engine: Engine = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise LookupError(f"the engine {name!r} cannot be imported: {error}") from error
    return engine


class Pool(ABC):
    """Workers that run the tasks.

    Attributes:
        sends_by_value: Whether functions that cannot be imported can be sent to other processes.
    """

    sends_by_value = False

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    @abstractmethod
    def submit(self, call: _tasks.Call, item: Any) -> Handle:
        """Hands one task over."""

    @abstractmethod
    def map(self, call: _tasks.Call, items: Sequence[Any]) -> list[Any]:
        """Runs all tasks as a user of this engine would and returns the results in order."""

    @abstractmethod
    def close(self) -> None:
        """Ends the workers and waits for them."""

    def pickle(self, value: Any) -> None:
        """Pickles a value as it is for another process, and raises what keeps it from that."""
        import pickle

        pickle.dumps(value, pickle.HIGHEST_PROTOCOL)

    def prepare(self, call: _tasks.Call) -> _tasks.Call:
        """The call as a worker of this pool runs it."""
        return _tasks.CoroutineCall(call) if self.setup.is_coroutine_function else call

    def start(self, now_ns: Callable[[], int]) -> tuple[int, list[tuple[int, int, int]]]:
        """Waits until every worker has answered.

        Args:
            now_ns: The monotonic clock.

        Returns:
            When the first result of a task that does nothing had arrived, in monotonic ns, and
            process, thread and start of the first tasks of all workers.
        """
        self.submit(_tasks.do_nothing, None).result()
        first_result_ns = now_ns()
        handles = [self.submit(_tasks.hold, HOLD_S) for _ in range(self.setup.workers)]
        return first_result_ns, [handle.result() for handle in handles]

    def run(self, call: _tasks.Call, items: Sequence[Any]) -> list[Any]:
        """Runs all tasks once."""
        return self.map(self.prepare(call), items)

    def run_ticking(self, call: _tasks.Call, items: Sequence[Any], ticker: Ticker) -> list[Any]:
        """Runs all tasks once while the calling thread ticks."""
        guarded = _tasks.Guarded(self.prepare(call))
        handles = [self.submit(guarded, item) for item in items]

        def results() -> Iterator[Any]:
            # A task that failed ends the run, though later ones may go on for ever.
            for handle in handles:
                while not handle.done():
                    ticker.wait()
                yield handle.result()

        return _tasks.gather(results())

    def run_logged(self, call: _tasks.Call, items: Sequence[Any]) -> list[_tasks.Record]:
        """Runs all tasks once and writes down who ran which."""
        return self.map(_tasks.Logged(self.prepare(call)), items)

    def probe_sharing(self) -> tuple[bool, bool]:
        """Whether the caller sees a worker's change, and a worker the caller's."""
        # Not a number that a worker may have inherited from an earlier probe.
        token = time.monotonic_ns()
        self.submit(_tasks.write_shared, token).result()
        caller_sees_worker = _tasks.shared.get("worker") == token
        _tasks.shared["caller"] = token
        worker_sees_caller = self.submit(_tasks.read_shared, None).result() == token
        return caller_sees_worker, worker_sees_caller
