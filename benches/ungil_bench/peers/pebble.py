"""pebble, whose tasks can have a timeout."""

from __future__ import annotations

from ungil_bench.peers.peer import Peer, chunk_size, drain

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


class Pebble(Peer):
    name = "pebble"
    packages = ("pebble",)
    is_future = True
    burst_ways = ("schedule",)
    map_ways = ("map", "map_in_chunks")

    def load(self) -> None:
        from pebble import ProcessPool

        self.executor = ProcessPool

    def open(self, workers: int) -> None:
        self.workers = workers
        self.pool = self.executor(max_workers=workers)

    def close(self) -> None:
        self.pool.close()
        self.pool.join()

    def call(self, function: Any, *arguments: Any) -> Any:
        return self.pool.schedule(function, args=arguments).result()

    def begin(self, function: Any, *arguments: Any) -> Any:
        return self.pool.schedule(function, args=arguments)

    def schedule(self, function: Any, items: Sequence[Any]) -> None:
        schedule = self.pool.schedule
        futures = [schedule(function, args=(item,)) for item in items]
        for future in futures:
            future.result()

    def map(self, function: Any, items: Sequence[Any]) -> None:
        drain(self.pool.map(function, items).result())

    def map_in_chunks(self, function: Any, items: Sequence[Any]) -> None:
        size = chunk_size(len(items), self.workers)
        drain(self.pool.map(function, items, chunksize=size).result())
