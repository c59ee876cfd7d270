"""joblib with its default backend, one ``Parallel`` kept open as its documentation recommends."""

from __future__ import annotations

from ungil_bench.peers.peer import Peer, chunk_size

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


class Joblib(Peer):
    name = "joblib"
    packages = ("joblib",)
    burst_ways = ("one_by_one",)
    map_ways = ("map", "map_in_batches")

    def load(self) -> None:
        import joblib

        self.joblib = joblib

    def open(self, workers: int) -> None:
        # With one worker joblib has none, and runs the calls in the caller's process.
        self.workers = max(2, workers)
        self.pool = self._entered("auto")
        self.others: dict[Any, Any] = {}

    def _entered(self, batch_size: int | str) -> Any:
        pool = self.joblib.Parallel(
            n_jobs=self.workers, batch_size=batch_size, pre_dispatch="2*n_jobs"
        )
        return pool.__enter__()

    def close(self) -> None:
        for pool in (*self.others.values(), self.pool):
            pool.__exit__(None, None, None)
        # The workers are loky's, who keeps them beyond that.
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=True)

    def call(self, function: Any, *arguments: Any) -> Any:
        return self.pool([self.joblib.delayed(function)(*arguments)])[0]

    def one_by_one(self, function: Any, items: Sequence[Any]) -> None:
        self._with_batches_of(1)(self._calls(function, items))

    def map(self, function: Any, items: Sequence[Any]) -> None:
        self.pool(self._calls(function, items))

    def map_in_batches(self, function: Any, items: Sequence[Any]) -> None:
        size = chunk_size(len(items), self.workers)
        self._with_batches_of(size)(self._calls(function, items))

    def _calls(self, function: Any, items: Sequence[Any]) -> Any:
        delayed = self.joblib.delayed(function)
        return (delayed(item) for item in items)

    def _with_batches_of(self, size: int) -> Any:
        # All of them use the same workers.
        if size not in self.others:
            self.others[size] = self._entered(size)
        return self.others[size]
