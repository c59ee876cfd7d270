"""``multiprocessing.Pool`` and its twin over threads, with their own chunking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ungil import _tasks
from ungil.engines import Handle, Pool, Setup

if TYPE_CHECKING:
    from multiprocessing.pool import AsyncResult
    from multiprocessing.pool import Pool as StdlibPool


class _AsyncResultHandle:
    def __init__(self, pending: AsyncResult[Any]) -> None:
        self._pending = pending

    def done(self) -> bool:
        return self._pending.ready()

    def result(self) -> Any:
        return self._pending.get()


class MultiprocessingPool(Pool):
    """``Pool.map`` with its default chunks."""

    def __init__(self, setup: Setup, pool: StdlibPool) -> None:
        super().__init__(setup)
        self._pool = pool

    def submit(self, call: _tasks.Call, item: Any) -> Handle:
        return _AsyncResultHandle(self._pool.apply_async(call, (item,)))

    def map(self, call: _tasks.Call, items: Sequence[Any]) -> list[Any]:
        return self._pool.map(call, items)

    def close(self) -> None:
        self._pool.close()
        self._pool.join()


class MultiprocessingEngine:
    """``multiprocessing.pool``: ``Pool`` for processes, ``ThreadPool`` for threads."""

    name = "multiprocessing"

    def models(self) -> list[str]:
        return ["threads", "processes"]

    def open(self, setup: Setup) -> Pool:
        if setup.model == "threads":
            from multiprocessing.pool import ThreadPool

            return MultiprocessingPool(setup, ThreadPool(setup.workers))
        from multiprocessing import Pool as create_pool

        return MultiprocessingPool(setup, create_pool(setup.workers))


ENGINE = MultiprocessingEngine()
