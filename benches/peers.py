"""The executors that are measured side by side.

A peer is a small class: how its pool is opened and closed, how one call goes through it, and the
ways in which it takes many. Add it to ``PEERS`` and every row has it that it can take part in. A
library that is not installed makes ``load`` fail, and the peer is left out.

Modules are imported late: the time until the first result of a fresh interpreter is measured too,
and a peer must not pay for another one's imports, or for those of the benchmark.
"""

from __future__ import annotations

import os

from work import nothing, touch

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any


class Peer:
    """Something that runs calls.

    Attributes:
        name: What the table calls it.
        kind: ``processes`` or ``threads``: it is compared with ungil's executor of this kind.
        is_ours: Whether the others are compared with it.
        rows: The rows it takes part in.
        burst_ways: Its methods that run many calls, each a task of its own.
        map_ways: Its methods that run one function for many items.
    """

    name: str
    kind = "processes"
    is_ours = False
    rows: tuple[str, ...] = ("burst", "trip", "pause", "map", "argument", "result", "start")
    burst_ways: tuple[str, ...] = ("submit",)
    map_ways: tuple[str, ...] = ("map",)

    pool: Any = None

    def load(self) -> None:
        """Imports what it needs."""
        raise NotImplementedError

    def open(self, workers: int) -> None:
        """Makes ``self.pool``."""
        raise NotImplementedError

    def close(self) -> None:
        """Waits until nothing of the pool is left."""
        raise NotImplementedError

    def call(self, function: Any, *arguments: Any) -> Any:
        """Runs one call and waits for its result."""
        raise NotImplementedError


class Executor(Peer):
    """Whatever has the interface of ``concurrent.futures.Executor``."""

    def close(self) -> None:
        self.pool.shutdown()

    def call(self, function: Any, *arguments: Any) -> Any:
        return self.pool.submit(function, *arguments).result()

    def submit(self, count: int) -> None:
        futures = [self.pool.submit(nothing) for _ in range(count)]
        for future in futures:
            future.result()

    def map(self, count: int) -> None:
        for _ in self.pool.map(nothing, range(count)):
            pass


class UngilProcesses(Executor):
    name = "ungil.ProcessPoolExecutor"
    is_ours = True

    def load(self) -> None:
        from ungil import ProcessPoolExecutor

        self.executor = ProcessPoolExecutor

    def open(self, workers: int) -> None:
        self.pool = self.executor(workers)


class UngilThreads(Executor):
    name = "ungil.ThreadPoolExecutor"
    kind = "threads"
    is_ours = True
    rows = ("burst", "trip", "pause", "map", "start")

    def load(self) -> None:
        from ungil import ThreadPoolExecutor

        self.executor = ThreadPoolExecutor

    def open(self, workers: int) -> None:
        self.pool = self.executor(workers)


class StdlibProcesses(Executor):
    """The stdlib's executor with one start method. With ``None`` it is the interpreter's own."""

    map_ways = ("map", "map_in_chunks")

    def __init__(self, method: str | None, rows: tuple[str, ...] = Peer.rows) -> None:
        self.method = method
        self.rows = rows
        self.name = f"ProcessPoolExecutor, {method or 'default method'}"

    def load(self) -> None:
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        self.context = multiprocessing.get_context(self.method)
        self.executor = ProcessPoolExecutor

    def open(self, workers: int) -> None:
        self.workers = workers
        self.pool = self.executor(workers, mp_context=self.context)

    def map_in_chunks(self, count: int) -> None:
        # As many chunks as multiprocessing.Pool.map would make.
        chunk = max(1, count // (4 * self.workers))
        for _ in self.pool.map(nothing, range(count), chunksize=chunk):
            pass


class StdlibThreads(Executor):
    name = "ThreadPoolExecutor"
    kind = "threads"
    rows = UngilThreads.rows

    def load(self) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self.executor = ThreadPoolExecutor

    def open(self, workers: int) -> None:
        self.pool = self.executor(workers)


class MultiprocessingPool(Peer):
    """``multiprocessing.Pool``, with the interpreter's own start method."""

    name = "multiprocessing.Pool"
    burst_ways = ("apply_async", "imap_one_by_one", "map_one_by_one")

    def load(self) -> None:
        import multiprocessing.pool

        self.context = multiprocessing

    def open(self, workers: int) -> None:
        self.pool = self.context.Pool(workers)

    def close(self) -> None:
        self.pool.close()
        self.pool.join()

    def call(self, function: Any, *arguments: Any) -> Any:
        return self.pool.apply(function, arguments)

    def apply_async(self, count: int) -> None:
        results = [self.pool.apply_async(nothing) for _ in range(count)]
        for result in results:
            result.get()

    def imap_one_by_one(self, count: int) -> None:
        for _ in self.pool.imap(nothing, range(count), chunksize=1):
            pass

    def map_one_by_one(self, count: int) -> None:
        for _ in self.pool.map(nothing, range(count), chunksize=1):
            pass

    def map(self, count: int) -> None:
        for _ in self.pool.map(nothing, range(count)):
            pass


class Loop(Peer):
    """No executor: what the loop costs that it would replace."""

    name = "a loop, no executor"
    rows = ("map",)

    def load(self) -> None:
        pass

    def open(self, workers: int) -> None:
        pass

    def close(self) -> None:
        pass

    def map(self, count: int) -> None:
        for item in range(count):
            nothing(item)


class Copy(Peer):
    """No executor: one copy into memory that is there already."""

    name = "one copy, no executor"
    rows = ("argument", "result")

    def load(self) -> None:
        import numpy

        self.numpy = numpy

    def open(self, workers: int) -> None:
        self.source = self.target = None

    def close(self) -> None:
        self.source = self.target = None

    def call(self, function: Any, *arguments: Any) -> Any:
        if not arguments:
            # The array that is kept on the other side: here there is none.
            return self._copied(self.source)
        (argument,) = arguments
        if function is touch:
            return touch(self._copied(argument))
        self.source = self.numpy.ones(argument, self.numpy.uint8)
        return touch(self.source)

    def _copied(self, array: Any) -> Any:
        if self.target is None:
            self.target = self.numpy.ones_like(array)
        self.numpy.copyto(self.target, array)
        return self.target


def _stdlib_processes() -> list[Peer]:
    # Asking multiprocessing for its default would import it, and that is measured.
    import sys

    default = "forkserver" if sys.version_info >= (3, 14) else "fork"
    peers: list[Peer] = [StdlibProcesses("fork")]
    if default != "fork":
        peers.append(StdlibProcesses(default))
    # How workers are started makes no difference once they run.
    started = [method for method in ("forkserver", "spawn") if method != default]
    return [*peers, *(StdlibProcesses(method, ("start",)) for method in started)]


PEERS: list[Peer] = [
    UngilProcesses(),
    *_stdlib_processes(),
    MultiprocessingPool(),
    Loop(),
    Copy(),
    UngilThreads(),
    StdlibThreads(),
]


def find(name: str) -> Peer:
    return next(peer for peer in PEERS if peer.name == name)


def usable_cpus() -> int:
    return len(os.sched_getaffinity(0))
