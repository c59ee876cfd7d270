"""ungil's executors, which the others are compared with."""

from __future__ import annotations

from ungil_bench.peers.peer import Executor

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any


class UngilProcesses(Executor):
    name = "ungil.ProcessPoolExecutor"
    is_ours = True
    array_ways = ("call", "shared_array")
    balancing_ways = ("submit", "map")

    def load(self) -> None:
        from ungil import ProcessPoolExecutor

        self.executor = ProcessPoolExecutor

    def lacks(self) -> dict[str, str]:
        import ungil

        if hasattr(ungil, "empty"):
            return {}
        return {"shared_array": "this version of ungil has no ungil.empty"}

    def open(self, workers: int) -> None:
        self.pool = self.executor(workers)

    def shared_array(self, function: Any, *arguments: Any) -> Any:
        """A call whose arrays lie in memory that is shared with the workers."""
        return self.call(function, *arguments)


class UngilThreads(Executor):
    name = "ungil.ThreadPoolExecutor"
    kind = "threads"
    is_ours = True

    def load(self) -> None:
        from ungil import ThreadPoolExecutor

        self.executor = ThreadPoolExecutor

    def open(self, workers: int) -> None:
        self.pool = self.executor(workers)
