"""The standard library's executors and pools."""

from __future__ import annotations

import sys

from ungil_bench.peers.peer import ChunkedExecutor, Executor, Peer, drain

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

# Asking multiprocessing for its default would import it, and that is measured.
DEFAULT_METHOD = "forkserver" if sys.version_info >= (3, 14) else "fork"


class StdlibProcesses(ChunkedExecutor):
    """The stdlib's executor with one start method."""

    def __init__(self, method: str, only: tuple[str, ...] | None = None) -> None:
        self.method = method
        self.name = f"ProcessPoolExecutor ({method})"
        self.only = only

    def load(self) -> None:
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        self.context = multiprocessing.get_context(self.method)
        self.executor = ProcessPoolExecutor

    def open(self, workers: int) -> None:
        self._workers = workers
        self.pool = self.executor(workers, mp_context=self.context)


class StdlibThreads(Executor):
    name = "ThreadPoolExecutor"
    kind = "threads"

    def load(self) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self.executor = ThreadPoolExecutor

    def open(self, workers: int) -> None:
        self.pool = self.executor(workers)


class MultiprocessingPool(Peer):
    """``multiprocessing.Pool``, with the interpreter's own start method.

    Its ``map`` cuts the items into chunks by itself, four for each worker.
    """

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

    def begin(self, function: Any, *arguments: Any) -> Any:
        return self.pool.apply_async(function, arguments)

    def apply_async(self, function: Any, items: Sequence[Any]) -> None:
        begin = self.pool.apply_async
        results = [begin(function, (item,)) for item in items]
        for result in results:
            result.get()

    def imap_one_by_one(self, function: Any, items: Sequence[Any]) -> None:
        drain(self.pool.imap(function, items, chunksize=1))

    def map_one_by_one(self, function: Any, items: Sequence[Any]) -> None:
        self.pool.map(function, items, chunksize=1)

    def map(self, function: Any, items: Sequence[Any]) -> None:
        self.pool.map(function, items)


def processes() -> list[Peer]:
    peers: list[Peer] = [StdlibProcesses("fork")]
    if DEFAULT_METHOD != "fork":
        peers.append(StdlibProcesses(DEFAULT_METHOD))
    # How workers are started makes no difference once they run.
    others = [method for method in ("forkserver", "spawn") if method != DEFAULT_METHOD]
    return [*peers, *(StdlibProcesses(method, ("start",)) for method in others)]
