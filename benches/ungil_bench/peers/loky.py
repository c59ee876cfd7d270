"""loky: an executor that outlives the death of a worker, and is kept between uses."""

from __future__ import annotations

from ungil_bench.peers.peer import ChunkedExecutor


class Loky(ChunkedExecutor):
    name = "loky"
    packages = ("loky",)

    def load(self) -> None:
        import loky

        self.executor = loky.get_reusable_executor

    def open(self, workers: int) -> None:
        self._workers = workers
        # Workers that nobody needs for a while would otherwise end, and be started again.
        self.pool = self.executor(max_workers=workers, timeout=None)

    def close(self) -> None:
        self.pool.shutdown(wait=True)
