"""ungil's own executors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ungil import _tasks
from ungil.engines import HOLD_S, Pool, Setup
from ungil.engines.stdlib import ExecutorPool

# Workers that have not answered after so many turns are not waited for any more.
_TURNS = 20


class _Awaited:
    """Runs a coroutine function in the event loop in which the executors run coroutines too."""

    def __init__(self, call: _tasks.Call) -> None:
        self._call = call

    def __call__(self, item: object) -> Any:
        from ungil import _coroutines

        return _coroutines.run(self._call(item))


class UngilPool(ExecutorPool):
    """``ungil.ThreadPoolExecutor`` or ``ungil.ProcessPoolExecutor``."""

    sends_by_value = True

    def prepare(self, call: _tasks.Call) -> _tasks.Call:
        # What looks at a task's result from within the worker must not see a coroutine. The event
        # loop stays the same for all runs, for whatever a function keeps of it.
        return _Awaited(call) if self.setup.is_coroutine_function else call

    def run(self, call: _tasks.Call, items: Sequence[Any]) -> list[Any]:
        # The executors run coroutine functions as they are.
        return self.map(call, items)

    def pickle(self, value: Any) -> None:
        from ungil._pickling import Encoder

        Encoder().dumps(value, None)

    def start(self, now_ns: Callable[[], int]) -> tuple[int, list[tuple[int, int, int]]]:
        self.submit(_tasks.do_nothing, None).result()
        first_result_ns = now_ns()
        workers, threads = self.setup.workers, self.setup.threads_per_worker
        answered: dict[tuple[int, int], tuple[int, int, int]] = {}
        # A worker that is ready takes what waits for one that is still starting, so that one may
        # miss its turn. A process answers with the first of its threads.
        for _ in range(_TURNS):
            holding = [self.submit(_tasks.hold, HOLD_S) for _ in range(workers * threads)]
            for process, thread, began_ns in sorted(
                (handle.result() for handle in holding), key=lambda began: began[2]
            ):
                worker = (process, 0 if threads > 1 else thread)
                answered.setdefault(worker, (process, thread, began_ns))
            if len(answered) >= workers:
                break
        return first_result_ns, list(answered.values())


class UngilEngine:
    """``ungil.ThreadPoolExecutor`` and ``ungil.ProcessPoolExecutor``."""

    name = "ungil"

    def models(self) -> list[str]:
        return ["threads", "processes", "processes_threads"]

    def start_method(self) -> str:
        return "zygote"

    def open(self, setup: Setup) -> Pool:
        if setup.model == "threads":
            from ungil import ThreadPoolExecutor

            return UngilPool(setup, ThreadPoolExecutor(setup.workers))
        from ungil import ProcessPoolExecutor

        executor = ProcessPoolExecutor(setup.workers, threads_per_worker=setup.threads_per_worker)
        return UngilPool(setup, executor)


ENGINE = UngilEngine()
