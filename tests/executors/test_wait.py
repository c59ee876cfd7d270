"""``concurrent.futures.wait`` and ``as_completed`` over futures of ours, and mixes with others."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, Future
from typing import Any

import pytest

from executors import tasks
from executors.conftest import Make, Rendezvous
from executors.kinds import PROCESSES, THREADS, Kind
from executors.rendezvous import SOON_S, Gate, Mailbox


@pytest.fixture
def slow(make: Make, mailbox: Mailbox, gate: Gate) -> Future[Any]:
    """A future whose task waits at the gate."""
    future = make(1).submit(tasks.post_and_wait, mailbox, gate, "slow")
    mailbox.take()
    return future


def test_wait_for_all(pool: Any, slow: Future[Any], gate: Gate) -> None:
    futures = [pool.submit(tasks.double, item) for item in range(5)]
    done, not_done = concurrent.futures.wait(futures, SOON_S)
    assert (done, not_done) == (set(futures), set())
    opener = threading.Thread(target=gate.open)
    opener.start()
    done, not_done = concurrent.futures.wait([slow, slow, *futures], SOON_S)
    opener.join()
    assert (done, not_done) == ({slow, *futures}, set())


def test_wait_for_the_first(pool: Any, slow: Future[Any]) -> None:
    fast = pool.submit(tasks.double, 21)
    done, not_done = concurrent.futures.wait([slow, fast], SOON_S, FIRST_COMPLETED)
    assert (done, not_done) == ({fast}, {slow})
    # It is done already.
    done, not_done = concurrent.futures.wait([slow, fast], 0, FIRST_COMPLETED)
    assert (done, not_done) == ({fast}, {slow})


def test_wait_for_the_first_exception(pool: Any, slow: Future[Any]) -> None:
    well = pool.submit(tasks.double, 21)
    well.result()
    failed = pool.submit(tasks.raise_trouble)
    done, not_done = concurrent.futures.wait([slow, well, failed], SOON_S, FIRST_EXCEPTION)
    assert (done, not_done) == ({well, failed}, {slow})
    done, not_done = concurrent.futures.wait([slow, well, failed], 0, FIRST_EXCEPTION)
    assert (done, not_done) == ({well, failed}, {slow})


def test_wait_for_an_exception_that_never_comes(pool: Any) -> None:
    futures = [pool.submit(tasks.double, item) for item in range(5)]
    done, _ = concurrent.futures.wait(futures, SOON_S, FIRST_EXCEPTION)
    assert done == set(futures)


@pytest.mark.parametrize("timeout", [0, 0.01])
@pytest.mark.parametrize("return_when", [ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION])
def test_wait_gives_up(slow: Future[Any], timeout: float, return_when: str) -> None:
    done, not_done = concurrent.futures.wait([slow], timeout, return_when)
    assert (done, not_done) == (set(), {slow})


def test_wait_sees_cancelled_futures(make: Make, mailbox: Mailbox, gate: Gate) -> None:
    executor = make(1)
    blocked = executor.submit(tasks.post_and_wait, mailbox, gate)
    mailbox.take()
    futures = [executor.submit(int) for _ in range(40)]
    futures[-1].cancel()
    gate.open()
    done, not_done = concurrent.futures.wait([blocked, *futures], SOON_S)
    assert (done, not_done) == ({blocked, *futures}, set())


def test_as_completed_gives_each_as_it_is_done(
    make: Make, rendezvous: Rendezvous, mailbox: Mailbox
) -> None:
    executor = make(2)
    gates = [rendezvous.gate(), rendezvous.gate()]
    futures = [executor.submit(tasks.post_and_wait, mailbox, each) for each in gates]
    mailbox.take(2)
    completed = concurrent.futures.as_completed(futures, SOON_S)
    gates[1].open()
    assert next(completed) is futures[1]
    gates[0].open()
    assert next(completed) is futures[0]
    assert list(completed) == []


def test_as_completed_gives_each_once(pool: Any) -> None:
    futures = [pool.submit(tasks.double, item) for item in range(20)]
    completed = list(concurrent.futures.as_completed([*futures, *futures], SOON_S))
    assert len(completed) == 20
    assert set(completed) == set(futures)


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_as_completed_gives_up(pool: Any, slow: Future[Any], timeout: float) -> None:
    fast = pool.submit(int)
    fast.result()
    completed = concurrent.futures.as_completed([slow, fast], timeout)
    assert next(completed) is fast
    with pytest.raises(TimeoutError, match=r"1 \(of 2\) futures unfinished"):
        next(completed)


def test_many_wait_for_the_same(slow: Future[Any], gate: Gate) -> None:
    seen: list[set[Any]] = []
    threads = [
        threading.Thread(target=lambda: seen.append(concurrent.futures.wait([slow], SOON_S).done))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    gate.open()
    for thread in threads:
        thread.join()
    assert seen == [{slow}] * 4


class TestMixes:
    """Futures of the stdlib's executors and of several of ours, together."""

    @pytest.fixture
    def executors(self, kind: Kind, pool: Any) -> Iterator[list[Any]]:
        other = THREADS if kind.has_processes else PROCESSES[0]
        with concurrent.futures.ThreadPoolExecutor(1) as stdlib, other.make(1) as ours:
            yield [pool, stdlib, ours]

    def test_wait(self, executors: list[Any], slow: Future[Any], gate: Gate) -> None:
        futures = [each.submit(tasks.double, 21) for each in executors]
        done, _ = concurrent.futures.wait(futures, SOON_S)
        assert done == set(futures)
        done, not_done = concurrent.futures.wait([slow, *futures], 0.01)
        assert (done, not_done) == (set(futures), {slow})
        gate.open()
        done, _ = concurrent.futures.wait([slow, *futures], SOON_S)
        assert done == {slow, *futures}

    @pytest.mark.parametrize("first", range(3))
    def test_wait_for_the_first(self, executors: list[Any], slow: Future[Any], first: int) -> None:
        future = executors[first].submit(tasks.double, 21)
        done, not_done = concurrent.futures.wait([slow, future], SOON_S, FIRST_COMPLETED)
        assert (done, not_done) == ({future}, {slow})

    @pytest.mark.parametrize("first", range(3))
    def test_wait_for_the_first_exception(
        self, executors: list[Any], slow: Future[Any], first: int
    ) -> None:
        wells = [each.submit(int) for each in executors]
        concurrent.futures.wait(wells, SOON_S)
        failed = executors[first].submit(tasks.raise_trouble)
        futures = [slow, failed, *wells]
        done, not_done = concurrent.futures.wait(futures, SOON_S, FIRST_EXCEPTION)
        assert (done, not_done) == ({failed, *wells}, {slow})

    def test_as_completed(self, executors: list[Any], slow: Future[Any], gate: Gate) -> None:
        futures = [each.submit(tasks.double, 21) for each in executors]
        completed = concurrent.futures.as_completed([slow, *futures], SOON_S)
        assert {next(completed) for _ in futures} == set(futures)
        gate.open()
        assert list(completed) == [slow]
