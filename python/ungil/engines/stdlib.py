"""The executors of ``concurrent.futures``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ungil import _tasks
from ungil.engines import Handle, Pool, Setup

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

    from ungil._core import Ticker


class ExecutorPool(Pool):
    """Anything with the contract of ``concurrent.futures.Executor``."""

    def __init__(self, setup: Setup, executor: Executor) -> None:
        super().__init__(setup)
        self._executor = executor

    def submit(self, call: _tasks.Call, item: Any) -> Handle:
        return self._executor.submit(call, item)

    def map(self, call: _tasks.Call, items: Sequence[Any]) -> list[Any]:
        return _tasks.gather(self._executor.map(call, items))

    def close(self) -> None:
        self._executor.shutdown(wait=True)


class ProcessesThreadsPool(ExecutorPool):
    """Processes that run the parts they are given in threads of their own.

    The items are cut into four parts a process, so that a slow part does not hold up the end,
    but never into parts smaller than a process has threads.
    """

    def map(self, call: _tasks.Call, items: Sequence[Any]) -> list[Any]:
        return _joined(self._submit_parts(call, items))

    def run_ticking(self, call: _tasks.Call, items: Sequence[Any], ticker: Ticker) -> list[Any]:
        futures = self._submit_parts(_tasks.Guarded(self.prepare(call)), items)
        for future in futures:
            while not future.done():
                ticker.wait()
        return _joined(futures)

    def _submit_parts(self, call: _tasks.Call, items: Sequence[Any]) -> list[Future[list[Any]]]:
        threads = self.setup.threads_per_worker
        size = max(threads, -(-len(items) // (4 * self.setup.workers)))
        return [
            self._executor.submit(
                _tasks.run_in_threads, call, items[start : start + size], start, threads
            )
            for start in range(0, len(items), size)
        ]


def _joined(futures: list[Future[list[Any]]]) -> list[Any]:
    return [result for future in futures for result in future.result()]


class StdlibEngine:
    """``ThreadPoolExecutor``, ``ProcessPoolExecutor`` and, from 3.14, ``InterpreterPoolExecutor``."""

    name = "stdlib"

    def models(self) -> list[str]:
        models = ["threads", "processes", "processes_threads"]
        return [*models, "interpreters"] if sys.version_info >= (3, 14) else models

    def open(self, setup: Setup) -> Pool:
        if setup.model == "threads":
            from concurrent.futures import ThreadPoolExecutor

            return ExecutorPool(setup, ThreadPoolExecutor(setup.workers))
        if setup.model == "interpreters":
            # Only newer versions have it, and only they get here.
            executor_class: Any = import_module("concurrent.futures").InterpreterPoolExecutor
            # A subinterpreter starts with the search path that the program started with.
            executor = executor_class(
                setup.workers, initializer=_tasks.set_search_path, initargs=(tuple(sys.path),)
            )
            return ExecutorPool(setup, executor)
        from concurrent.futures import ProcessPoolExecutor

        processes = ProcessPoolExecutor(setup.workers)
        if setup.model == "processes_threads":
            return ProcessesThreadsPool(setup, processes)
        return ExecutorPool(setup, processes)


ENGINE = StdlibEngine()
