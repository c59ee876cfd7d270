"""mpire, with its workers kept alive between calls."""

from __future__ import annotations

from ungil_bench.peers.peer import Peer, chunk_size

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


class Mpire(Peer):
    name = "mpire"
    packages = ("mpire",)
    burst_ways = ("apply_async", "map_one_by_one")
    map_ways = ("map", "map_in_chunks")

    def load(self) -> None:
        from mpire import WorkerPool

        self.executor = WorkerPool

    def open(self, workers: int) -> None:
        self.workers = workers
        self.pool = self.executor(n_jobs=workers, keep_alive=True)

    def close(self) -> None:
        self.pool.stop_and_join(keep_alive=False)

    def call(self, function: Any, *arguments: Any) -> Any:
        return self.pool.apply(function, arguments)

    def begin(self, function: Any, *arguments: Any) -> Any:
        return self.pool.apply_async(function, arguments)

    def apply_async(self, function: Any, items: Sequence[Any]) -> None:
        begin = self.pool.apply_async
        results = [begin(function, (item,)) for item in items]
        for result in results:
            result.get()

    def map_one_by_one(self, function: Any, items: Sequence[Any]) -> None:
        self.pool.map(function, items, chunk_size=1)

    def map(self, function: Any, items: Sequence[Any]) -> None:
        self.pool.map(function, items)

    def map_in_chunks(self, function: Any, items: Sequence[Any]) -> None:
        self.pool.map(function, items, chunk_size=chunk_size(len(items), self.workers))
