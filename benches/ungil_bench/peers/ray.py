"""Ray on this machine alone. It is made for clusters, and heavy."""

from __future__ import annotations

from ungil_bench.peers.peer import Peer

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


class Ray(Peer):
    name = "Ray"
    packages = ("ray",)
    is_heavy = True
    burst_ways = ("remote",)
    map_ways = ("map",)

    def load(self) -> None:
        import os

        # It would tell its makers of each use.
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        import ray

        self.ray = ray

    def open(self, workers: int) -> None:
        import os

        # The benchmark removes it, whatever happens to this process.
        folder = os.environ["UNGIL_BENCH_SCRATCH"]
        self.ray.init(
            num_cpus=workers,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=folder,
        )
        self.workers = workers
        self.remotes: dict[Any, Any] = {}
        self.pool = None

    def close(self) -> None:
        if self.pool is not None:
            self.pool.close()
            self.pool.join()
        self.ray.shutdown()

    def call(self, function: Any, *arguments: Any) -> Any:
        return self.ray.get(self.begin(function, *arguments))

    def begin(self, function: Any, *arguments: Any) -> Any:
        return self._remote(function)(*arguments)

    def remote(self, function: Any, items: Sequence[Any]) -> None:
        remote = self._remote(function)
        self.ray.get([remote(item) for item in items])

    def map(self, function: Any, items: Sequence[Any]) -> None:
        """Its own ``Pool``, which cuts the items into chunks."""
        if self.pool is None:
            from ray.util.multiprocessing import Pool

            self.pool = Pool(self.workers)
        self.pool.map(function, items)

    def _remote(self, function: Any) -> Any:
        if function not in self.remotes:
            self.remotes[function] = self.ray.remote(function).remote
        return self.remotes[function]
