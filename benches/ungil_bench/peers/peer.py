"""What a peer is.

Modules are imported late: the time until the first result of a fresh interpreter is measured too,
and a peer must not pay for another one's imports, or for those of the benchmark.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any


class Peer:
    """Something that runs calls.

    A *way* is a method ``way(function, items)`` that calls ``function(item)`` for each item and
    returns when there are all results. A peer names its ways by what they are good for; the rows
    choose by those names.

    Attributes:
        name: What the tables call it.
        kind: ``processes`` or ``threads``: it is compared with ungil's executor of this kind.
        packages: What has to be installed for it.
        is_ours: Whether the others are compared with it.
        is_heavy: Whether it takes part only if asked for.
        only: The rows it takes part in; ``None``: all that its kind can take part in.
        is_future: Whether ``begin`` returns a ``concurrent.futures.Future``.
        call_ways: One call and its result.
        array_ways: The same, for the rows that pass arrays.
        burst_ways: Each item is a task of its own: all begun, then all results. The best way first.
        map_ways: One function for many items. As the peer does it by itself, then as its
            documentation recommends for many small items, where that is something else.
    """

    name: str
    kind = "processes"
    packages: tuple[str, ...] = ()
    is_ours = False
    is_heavy = False
    only: tuple[str, ...] | None = None
    is_future = False
    call_ways: tuple[str, ...] = ("call",)
    array_ways: tuple[str, ...] = ("call",)
    burst_ways: tuple[str, ...] = ("submit",)
    map_ways: tuple[str, ...] = ("map",)

    pool: Any = None

    @property
    def task_ways(self) -> tuple[str, ...]:
        """Its best with tasks."""
        return self.burst_ways[:1]

    @property
    def balancing_ways(self) -> tuple[str, ...]:
        """For tasks that take different times."""
        return self.burst_ways[:1]

    @property
    def gaining_ways(self) -> tuple[str, ...]:
        """For the smallest task that gains from workers: its best with tasks, its best with items."""
        return (*self.burst_ways[:1], *self.map_ways[-1:])

    def load(self) -> None:
        """Imports what it needs."""
        raise NotImplementedError

    def lacks(self) -> dict[str, str]:
        """After ``load``: the ways that cannot be gone, and why."""
        return {}

    def open(self, workers: int) -> None:
        """Makes ``self.pool``."""
        raise NotImplementedError

    def close(self) -> None:
        """Waits until nothing of the pool is left."""
        raise NotImplementedError

    def call(self, function: Any, *arguments: Any) -> Any:
        """Runs one call and waits for its result."""
        raise NotImplementedError

    def begin(self, function: Any, *arguments: Any) -> Any:
        """Begins one call."""
        raise NotImplementedError


class Executor(Peer):
    """Whatever has the interface of ``concurrent.futures.Executor``."""

    is_future = True

    def close(self) -> None:
        self.pool.shutdown()

    def call(self, function: Any, *arguments: Any) -> Any:
        return self.pool.submit(function, *arguments).result()

    def begin(self, function: Any, *arguments: Any) -> Any:
        return self.pool.submit(function, *arguments)

    def submit(self, function: Any, items: Sequence[Any]) -> None:
        submit = self.pool.submit
        futures = [submit(function, item) for item in items]
        for future in futures:
            future.result()

    def map(self, function: Any, items: Sequence[Any]) -> None:
        drain(self.pool.map(function, items))


class ChunkedExecutor(Executor):
    """One whose ``map`` sends items one by one unless it is told otherwise."""

    map_ways = ("map", "map_in_chunks")

    _workers = 1

    def map_in_chunks(self, function: Any, items: Sequence[Any]) -> None:
        # What multiprocessing.Pool chooses by itself.
        size = chunk_size(len(items), self._workers)
        drain(self.pool.map(function, items, chunksize=size))


def drain(results: Iterator[Any]) -> None:
    for _ in results:
        pass


def chunk_size(items: int, workers: int) -> int:
    """Four chunks for each worker."""
    return max(1, -(-items // (4 * workers)))
