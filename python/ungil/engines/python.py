"""The models that need no executor: a serial loop, and coroutines in one event loop."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from ungil import _tasks
from ungil.engines import Handle, Pool, Setup

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from ungil._core import Ticker


class _Ended:
    """A task that was run when it was submitted."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def done(self) -> bool:
        return True

    def result(self) -> Any:
        return self._value


class SerialPool(Pool):
    """One call after the other in the calling thread.

    Coroutines are awaited one after the other in one event loop, which stays the same for all
    runs: what a function keeps of its loop, such as a client's session, stays good.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._runner = asyncio.Runner() if setup.is_coroutine_function else None

    def prepare(self, call: _tasks.Call) -> _tasks.Call:
        runner = self._runner
        return call if runner is None else lambda item: runner.run(call(item))

    def submit(self, call: _tasks.Call, item: Any) -> Handle:
        return _Ended(call(item))

    def map(self, call: _tasks.Call, items: Sequence[Any]) -> list[Any]:
        # Not map(call, items): a StopIteration that escapes from the call would end it quietly.
        results: list[Any] = []
        for item in items:
            try:
                results.append(call(item))
            except BaseException as error:
                _tasks.note_task(error, len(results))
                raise
        return results

    def run(self, call: _tasks.Call, items: Sequence[Any]) -> list[Any]:
        if self._runner is None:
            return self.map(call, items)

        async def one_after_the_other() -> list[Any]:
            return [await _numbered(call, *pair) for pair in enumerate(items)]

        return self._runner.run(one_after_the_other())

    def run_ticking(self, call: _tasks.Call, items: Sequence[Any], ticker: Ticker) -> list[Any]:
        # The calling thread is busy with the tasks: no tick gets a turn before the end.
        return self.map(_tasks.Guarded(self.prepare(call)), items)

    def close(self) -> None:
        if self._runner is not None:
            self._runner.close()


class AsyncioPool(Pool):
    """Coroutines in one event loop; an ordinary function runs in the loop's threads."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._runner = asyncio.Runner()
        self._executor: ThreadPoolExecutor | None = None
        if not setup.is_coroutine_function:
            from concurrent.futures import ThreadPoolExecutor

            self._executor = ThreadPoolExecutor(setup.workers)
            self._runner.get_loop().set_default_executor(self._executor)

    def submit(self, call: _tasks.Call, item: Any) -> Handle:
        async def in_loop() -> Any:
            if self._executor is None:
                return call(item)
            return await asyncio.to_thread(call, item)

        return _Ended(self._runner.run(in_loop()))

    def map(self, call: _tasks.Call, items: Sequence[Any]) -> list[Any]:
        return self._runner.run(self._all(call, items))

    def start(self, now_ns: Callable[[], int]) -> tuple[int, list[tuple[int, int, int]]]:
        # Nothing has to come up: the loop holds all coroutines from its first turn on.
        first = self.submit(_tasks.hold, 0.0).result()
        return now_ns(), [first]

    def run(self, call: _tasks.Call, items: Sequence[Any]) -> list[Any]:
        return self.map(call, items)

    def run_ticking(self, call: _tasks.Call, items: Sequence[Any], ticker: Ticker) -> list[Any]:
        guarded = _GuardedCoroutine(call) if self._executor is None else _tasks.Guarded(call)

        async def ticking() -> list[Any]:
            ticks = asyncio.ensure_future(_tick(ticker))
            try:
                return await self._all(guarded, items)
            finally:
                ticks.cancel()

        return self._runner.run(ticking())

    def run_logged(self, call: _tasks.Call, items: Sequence[Any]) -> list[_tasks.Record]:
        if self._executor is not None:
            return self.map(_tasks.Logged(call), items)
        return self.map(functools.partial(_logged_coroutine, call), items)

    def close(self) -> None:
        self._runner.close()

    async def _all(self, call: _tasks.Call, items: Sequence[Any]) -> list[Any]:
        if self._executor is not None:
            return await asyncio.gather(*[asyncio.to_thread(call, item) for item in items])
        limit = self.setup.workers
        if limit >= len(items):
            return await asyncio.gather(*[_numbered(call, *pair) for pair in enumerate(items)])
        places = asyncio.Semaphore(limit)

        async def in_place(index: int, item: Any) -> Any:
            async with places:
                return await _numbered(call, index, item)

        return await asyncio.gather(*[in_place(*pair) for pair in enumerate(items)])


async def _numbered(call: Callable[[Any], Awaitable[Any]], index: int, item: Any) -> Any:
    try:
        return await call(item)
    except BaseException as error:
        _tasks.note_task(error, index)
        raise


async def _tick(ticker: Ticker) -> None:
    while True:
        await asyncio.sleep(ticker.until_due_s())
        ticker.turn()


class _GuardedCoroutine:
    """[`Guarded`][ungil._tasks.Guarded] for coroutine functions."""

    def __init__(self, call: Callable[[Any], Awaitable[Any]]) -> None:
        self._call = call

    async def __call__(self, item: Any) -> Any:
        import os

        from ungil import _core

        process = os.getpid()
        try:
            return await self._call(item)
        finally:
            if os.getpid() != process:
                _core.note_stray()
                os._exit(0)


async def _logged_coroutine(call: Callable[[Any], Coroutine[Any, Any, Any]], item: Any) -> Any:
    import os
    import threading
    import time

    start_ns = time.monotonic_ns()
    result = await call(item)
    thread = threading.current_thread().name
    return result, os.getpid(), "MainProcess", thread, start_ns, time.monotonic_ns()


class PythonEngine:
    """The interpreter itself."""

    name = "python"

    def models(self) -> list[str]:
        return ["serial", "asyncio"]

    def open(self, setup: Setup) -> Pool:
        return AsyncioPool(setup) if setup.model == "asyncio" else SerialPool(setup)


ENGINE = PythonEngine()
