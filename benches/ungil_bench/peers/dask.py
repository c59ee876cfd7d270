"""Dask's distributed scheduler with processes of this machine. It is made for clusters, and heavy."""

from __future__ import annotations

from ungil_bench.peers.peer import Peer, chunk_size

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


class Dask(Peer):
    name = "Dask"
    packages = ("distributed",)
    is_heavy = True
    map_ways = ("map", "map_in_batches")

    def load(self) -> None:
        import distributed

        self.client = distributed.Client

    def open(self, workers: int) -> None:
        self.workers = workers
        self.pool = self.client(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            silence_logs=50,
        )

    def close(self) -> None:
        self.pool.shutdown()

    def call(self, function: Any, *arguments: Any) -> Any:
        return self.begin(function, *arguments).result()

    # Without ``pure=False`` equal calls are one.
    def begin(self, function: Any, *arguments: Any) -> Any:
        return self.pool.submit(function, *arguments, pure=False)

    def submit(self, function: Any, items: Sequence[Any]) -> None:
        self.pool.gather([self.pool.submit(function, item, pure=False) for item in items])

    def map(self, function: Any, items: Sequence[Any]) -> None:
        self.pool.gather(self.pool.map(function, items, pure=False))

    def map_in_batches(self, function: Any, items: Sequence[Any]) -> None:
        size = chunk_size(len(items), self.workers)
        self.pool.gather(self.pool.map(function, items, pure=False, batch_size=size))
