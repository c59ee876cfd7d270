"""Executors and futures in an asyncio program."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from executors import tasks
from executors.conftest import Make, only_threads
from executors.rendezvous import SOON_S, Gate, Mailbox


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    """Runs a coroutine function to its end."""

    async def limited() -> Any:
        async with asyncio.timeout(SOON_S):
            return await main()

    return asyncio.run(limited())


def test_run_in_executor(pool: Any) -> None:
    async def main() -> Any:
        return await asyncio.get_running_loop().run_in_executor(pool, tasks.double, 21)

    assert run(main) == 42


def test_exception_of_run_in_executor(pool: Any) -> None:
    async def main() -> None:
        await asyncio.get_running_loop().run_in_executor(pool, tasks.raise_trouble, "in vain")

    with pytest.raises(tasks.Trouble, match="in vain"):
        run(main)


def test_wrapped_future(pool: Any) -> None:
    async def main() -> Any:
        first = pool.submit(tasks.double, 1)
        first.result()
        finished = await asyncio.wrap_future(first)
        return finished, await asyncio.wrap_future(pool.submit(tasks.double, 2))

    assert run(main) == (2, 4)


def test_many_at_once(pool: Any) -> None:
    async def main() -> Any:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(
            *[loop.run_in_executor(pool, tasks.double, item) for item in range(100)]
        )

    assert run(main) == [item * 2 for item in range(100)]


def test_gather_with_exceptions(pool: Any) -> None:
    async def main() -> Any:
        wrapped = [asyncio.wrap_future(pool.submit(tasks.fails_at, item, 1)) for item in range(3)]
        return await asyncio.gather(*wrapped, return_exceptions=True)

    first, failed, last = run(main)
    assert (first, last) == (0, 2)
    assert type(failed) is tasks.Trouble


def test_event_loop_goes_on_meanwhile(pool: Any, gate: Gate, mailbox: Mailbox) -> None:
    async def main() -> Any:
        waiting = asyncio.wrap_future(pool.submit(tasks.post_and_wait, mailbox, gate, "through"))
        # Blocks a thread of the event loop's, not the event loop.
        await asyncio.to_thread(mailbox.take)
        assert not waiting.done()
        gate.open()
        return await waiting

    assert run(main) == "through"


def test_result_comes_in_the_thread_of_the_event_loop(pool: Any) -> None:
    async def main() -> Any:
        threads: list[int] = []
        future = asyncio.wrap_future(pool.submit(int))
        future.add_done_callback(lambda _: threads.append(threading.get_ident()))
        await future
        await asyncio.sleep(0)
        return threads

    assert run(main) == [threading.get_ident()]


def test_cancelling_the_awaitable_cancels_the_task(
    make: Make, mailbox: Mailbox, gate: Gate
) -> None:
    executor = make(1)
    executor.submit(tasks.post_and_wait, mailbox, gate)
    mailbox.take()
    futures = [executor.submit(tasks.post, mailbox, item) for item in range(40)]

    async def main() -> None:
        awaitable = asyncio.wrap_future(futures[-1])
        awaitable.cancel()
        with pytest.raises(asyncio.CancelledError):
            await awaitable

    run(main)
    assert futures[-1].cancelled()
    gate.open()
    executor.shutdown()
    assert mailbox.take_all() == [str(item) for item in range(39)]


def test_cancelling_the_awaitable_of_a_running_task(
    make: Make, mailbox: Mailbox, gate: Gate
) -> None:
    executor = make(1)
    future = executor.submit(tasks.post_and_wait, mailbox, gate, "through")
    mailbox.take()

    async def main() -> None:
        awaitable = asyncio.wrap_future(future)
        awaitable.cancel()
        with pytest.raises(asyncio.CancelledError):
            await awaitable

    run(main)
    gate.open()
    assert future.result(SOON_S) == "through"


def test_cancelling_the_task_cancels_the_awaitable(
    make: Make, mailbox: Mailbox, gate: Gate
) -> None:
    executor = make(1)
    executor.submit(tasks.post_and_wait, mailbox, gate)
    mailbox.take()
    futures = [executor.submit(int) for _ in range(40)]

    async def main() -> None:
        awaitable = asyncio.wrap_future(futures[-1])
        assert futures[-1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await awaitable

    run(main)


@only_threads
def test_default_executor(make: Make) -> None:
    executor = make(1, thread_name_prefix="Default")

    async def main() -> Any:
        asyncio.get_running_loop().set_default_executor(executor)
        first = await asyncio.get_running_loop().run_in_executor(None, tasks.thread_name)
        return first, await asyncio.to_thread(tasks.thread_name)

    assert run(main) == ("Default_0", "Default_0")
    # The event loop has shut it down at its end.
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(int)
