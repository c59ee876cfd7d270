"""``map``: its order, how far it looks ahead, and what ends it early."""

from __future__ import annotations

import gc
import itertools
import os
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import ungil

from executors import tasks
from executors.conftest import Make, only_processes
from executors.kinds import Kind
from executors.rendezvous import Gate, Mailbox


class Counted:
    """Items that know how many of them were taken."""

    def __init__(self, items: Any) -> None:
        self.taken = 0
        self._items = iter(items)

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            self.taken += 1
            yield item


@pytest.mark.parametrize("chunksize", [1, 3, 50])
def test_results_come_in_order(pool: Any, chunksize: int) -> None:
    results = pool.map(tasks.double, range(40), chunksize=chunksize)
    assert next(results) == 0
    assert list(results) == [item * 2 for item in range(1, 40)]


def test_results_are_an_iterator(pool: Any) -> None:
    results = pool.map(tasks.double, range(3))
    assert iter(results) is results
    assert list(results) == [0, 2, 4]
    assert list(results) == []


@pytest.mark.parametrize("chunksize", [1, 2])
def test_several_iterables_end_with_the_shortest(pool: Any, chunksize: int) -> None:
    short = itertools.islice(itertools.count(100), 5)
    results = pool.map(tasks.add, range(10), short, chunksize=chunksize)
    assert list(results) == [100, 102, 104, 106, 108]


def test_nothing_to_do(pool: Any) -> None:
    assert list(pool.map(tasks.double, [])) == []
    assert list(pool.map(tasks.double)) == []
    assert list(pool.map(tasks.add, [], [1, 2])) == []


def test_iterable_of_any_kind(pool: Any) -> None:
    assert list(pool.map(tasks.double, (item for item in [1, 2]))) == [2, 4]
    assert list(pool.map(tasks.double, {3: "three"})) == [6]
    assert list(pool.map(tasks.length, "ab")) == [1, 1]


def test_later_results_wait_for_earlier_ones(make: Make, mailbox: Mailbox, gate: Gate) -> None:
    executor = make(2)
    results = executor.map(
        tasks.post_and_wait_if, [1, 0, 0], [mailbox] * 3, [gate] * 3, [1] * 3, timeout=60
    )
    # The others are done while the first waits.
    assert sorted(mailbox.take(3)) == ["0", "0", "1"]
    gate.open()
    assert list(results) == [1, 0, 0]


def test_exception_comes_in_its_place(pool: Any) -> None:
    results = pool.map(tasks.fails_at, range(6), itertools.repeat(3))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(tasks.Trouble) as caught:
        next(results)
    assert caught.value.args == ("at", 3)
    assert list(results) == [], "an iterator that has raised is at its end"
    assert pool.submit(tasks.double, 21).result() == 42


def test_exception_in_a_chunk(pool: Any) -> None:
    results = pool.map(tasks.fails_at, range(12), itertools.repeat(7), chunksize=4)
    assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(tasks.Trouble):
        list(results)


def test_exception_of_the_iterable_comes_from_the_call(pool: Any) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        pool.map(tasks.double, items())
    assert list(pool.map(tasks.double, [1])) == [2]


def test_function_that_cannot_be_called(pool: Any) -> None:
    with pytest.raises(TypeError, match="not callable"):
        list(pool.map(42, [1]))


def test_every_item_is_run_though_nobody_iterates(make: Make, mailbox: Mailbox) -> None:
    executor = make(2)
    items = Counted(range(30))
    results = executor.map(tasks.post, itertools.repeat(mailbox), items)
    assert items.taken == 30
    assert {int(line) for line in mailbox.take(30)} == set(range(30))
    del results


def test_items_are_run_though_the_iterator_is_dropped(make: Make, mailbox: Mailbox) -> None:
    executor = make(1)
    executor.map(tasks.post, itertools.repeat(mailbox, 30), range(30))
    gc.collect()
    assert {int(line) for line in mailbox.take(30)} == set(range(30))


@pytest.mark.parametrize("timeout", [30, 30.0])
def test_timeout_that_is_long_enough(pool: Any, timeout: float) -> None:
    assert list(pool.map(tasks.double, range(3), timeout=timeout)) == [0, 2, 4]


def test_timeout_cancels_the_rest(make: Make, mailbox: Mailbox, gate: Gate) -> None:
    executor = make(1)
    executor.submit(tasks.post_and_wait, mailbox, gate)
    mailbox.take()
    results = executor.map(tasks.post, itertools.repeat(mailbox, 50), range(50), timeout=0)
    with pytest.raises(TimeoutError):
        next(results)
    gate.open()
    executor.shutdown()
    assert "49" not in mailbox.take_all()


def test_closing_cancels_the_rest(make: Make, mailbox: Mailbox, gate: Gate) -> None:
    executor = make(1)
    results = executor.map(
        *[tasks.post_and_wait_if, range(50), itertools.repeat(mailbox), itertools.repeat(gate)],
        itertools.repeat(1),
    )
    assert next(results) == 0
    assert mailbox.take(2) == ["0", "1"]
    results.close()
    gate.open()
    executor.shutdown()
    assert "49" not in mailbox.take_all()


def test_exception_cancels_the_rest(make: Make, mailbox: Mailbox, gate: Gate) -> None:
    executor = make(1)
    results = executor.map(
        *[tasks.fail_or_post_and_wait, range(50), itertools.repeat(mailbox)],
        itertools.repeat(gate),
    )
    # The second task has begun, and waits.
    assert mailbox.take() == ["1"]
    with pytest.raises(tasks.Trouble):
        next(results)
    gate.open()
    executor.shutdown()
    assert "49" not in mailbox.take_all()


@pytest.mark.parametrize("chunksize", [0, -1])
@only_processes
def test_chunks_have_at_least_one_item(pool: Any, chunksize: int) -> None:
    with pytest.raises(ValueError, match=r"chunksize must be >= 1\."):
        list(pool.map(tasks.double, range(3), chunksize=chunksize))


def test_iterator_keeps_no_result(pool: Any) -> None:
    for result in pool.map(tasks.make_tracked, range(5)):
        reference = weakref.ref(result)
        del result
        gc.collect()
        assert reference() is None


def test_iterator_keeps_no_executor(kind: Kind) -> None:
    executor = kind.make(1)
    results = executor.map(tasks.double, range(5))
    reference = weakref.ref(executor)
    del executor
    gc.collect()
    assert reference() is None
    assert list(results) == [item * 2 for item in range(5)]


class TestBuffer:
    """``buffersize`` bounds how far a map looks ahead."""

    @pytest.mark.parametrize("buffersize", [1, 2, 7, 100])
    def test_results_are_the_same(self, pool: Any, buffersize: int) -> None:
        results = pool.map(tasks.double, range(20), buffersize=buffersize)
        assert list(results) == [item * 2 for item in range(20)]

    @pytest.mark.parametrize("buffersize", [1, 4])
    def test_only_so_many_items_are_taken(self, pool: Any, buffersize: int) -> None:
        items = Counted(itertools.count())
        results = pool.map(tasks.double, items, buffersize=buffersize)
        assert items.taken == buffersize
        for number in range(1, 20):
            assert next(results) == (number - 1) * 2
            assert number <= items.taken <= number + buffersize
        results.close()

    @only_processes
    def test_chunks_are_counted(self, pool: Any) -> None:
        items = Counted(itertools.count())
        results = pool.map(tasks.double, items, chunksize=3, buffersize=2)
        assert items.taken == 6
        assert list(itertools.islice(results, 9)) == [item * 2 for item in range(9)]
        assert items.taken <= 9 + 6
        results.close()

    def test_items_are_taken_while_there_are_any(self, pool: Any) -> None:
        items = Counted(range(3))
        assert list(pool.map(tasks.double, items, buffersize=10)) == [0, 2, 4]
        assert items.taken == 3
        assert list(pool.map(tasks.double, [], buffersize=2)) == []

    def test_exception_comes_in_its_place(self, pool: Any) -> None:
        items = Counted(itertools.count())
        results = pool.map(tasks.fails_at, items, itertools.repeat(5), buffersize=2)
        assert [next(results) for _ in range(5)] == list(range(5))
        with pytest.raises(tasks.Trouble):
            next(results)
        assert items.taken <= 5 + 1 + 2

    def test_timeout(self, make: Make, mailbox: Mailbox, gate: Gate) -> None:
        executor = make(1)
        executor.submit(gate.wait)
        results = executor.map(tasks.double, itertools.count(), buffersize=2, timeout=0.01)
        with pytest.raises(TimeoutError):
            next(results)

    def test_iterator_outlives_its_executor(self, kind: Kind) -> None:
        executor = kind.make(1)
        results = executor.map(tasks.double, range(20), buffersize=3)
        del executor
        gc.collect()
        # What was submitted is delivered, and no more can be.
        assert list(results) == [0, 2, 4]

    @pytest.mark.parametrize("buffersize", ["1", 1.0, object()], ids=["text", "float", "object"])
    def test_buffersize_is_a_number(self, pool: Any, buffersize: Any) -> None:
        with pytest.raises(TypeError, match="buffersize must be an integer or None"):
            pool.map(tasks.double, range(3), buffersize=buffersize)

    @pytest.mark.parametrize("buffersize", [0, -1])
    def test_buffersize_is_positive(self, pool: Any, buffersize: int) -> None:
        items = Counted(range(3))
        with pytest.raises(ValueError, match="buffersize must be None or > 0"):
            pool.map(tasks.double, items, buffersize=buffersize)
        assert items.taken == 0


ITEMS = {
    "numbers": list(range(-3000, 3000)),
    "range": range(5000, -5000, -7),
    "empty range": range(5, 5),
    "range of large numbers": range(2**63 - 3, 2**63 + 3),
    "floats and none": [None, 1.5, float("inf"), True, False] * 300,
    "texts": ["", "a", "é" * 30, "\udc80", "x" * 5000, "y" * 100_000],
    "bytes": [b"", b"\0" * 70, bytes(2000), bytes(200_000)],
    "large numbers": [2**62, 2**63, -(2**63), 2**200],
    "containers": [(1, 2), [3], {"a": (None,)}, {4}, ()] * 100,
    "instances": [tasks.Point(1, 2), tasks.Colour.RED, tasks.MyInt(3), tasks.MyStr("s")] * 50,
}


@pytest.mark.parametrize("name", ITEMS)
def test_items_arrive_as_they_were(pool: Any, name: str) -> None:
    items = ITEMS[name]
    echoes = list(pool.map(tasks.echo, items))
    assert echoes == list(items)
    assert [type(echo) for echo in echoes] == [type(item) for item in items]


def test_argument_tuples_arrive_as_they_were(pool: Any) -> None:
    columns = [range(500), [None, "a", b"b", 1.5, (1, [2])] * 100, itertools.repeat("x" * 3000)]
    assert list(pool.map(tasks.capture, *columns)) == [
        (row, {}) for row in zip(*columns, strict=False)
    ]


@only_processes
@pytest.mark.parametrize("bad", [0, 1, 499, 999])
def test_pain_1_item_that_kills_its_worker_costs_no_other(pool: Any, bad: int) -> None:
    results = pool.map(tasks.kill_me_if, range(1000), itertools.repeat(bad))
    assert [next(results) for _ in range(bad)] == list(range(bad))
    with pytest.raises(ungil.WorkerCrashed, match="kill_me_if"):
        next(results)
    assert list(pool.map(tasks.double, range(100))) == [2 * item for item in range(100)]


def test_pain_15_items_behind_a_slow_one_are_run_by_others(
    make: Make, mailbox: Mailbox, gate: Gate
) -> None:
    executor = make(2)
    waiting = [0 if item == 120 else 1000 for item in range(200)]
    columns = map(itertools.repeat, (mailbox, gate))
    executor.map(tasks.post_and_wait_if, range(200), *columns, waiting)
    # All others are done while one of them waits.
    assert {int(line) for line in mailbox.take(200)} == set(range(200))
    gate.open()


def test_result_comes_while_the_next_item_is_slow(make: Make, mailbox: Mailbox, gate: Gate) -> None:
    executor = make(1)
    results = executor.map(
        tasks.post_and_wait_if, range(300), *map(itertools.repeat, (mailbox, gate, 150))
    )
    assert [next(results) for _ in range(150)] == list(range(150))
    gate.open()
    assert list(results) == list(range(150, 300))


def test_items_that_wait_for_earlier_ones_do_not_wait_for_ever(
    make: Make, mailbox: Mailbox
) -> None:
    executor = make(1)

    def items() -> Iterator[int]:
        for item in range(20):
            yield item
            assert mailbox.take() == [str(item)], "it was run before the next one was asked for"

    assert list(executor.map(tasks.post, itertools.repeat(mailbox), items())) == [None] * 20


def test_item_that_cannot_be_sent_fails_in_its_place(pool: Any, kind: Kind) -> None:
    items = [1, 2, threading.Lock(), 4]
    results = pool.map(tasks.length if not kind.has_processes else tasks.echo, items)
    if not kind.has_processes:
        with pytest.raises(TypeError, match="len"):
            next(results)
        return
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(TypeError, match="pickle"):
        next(results)


@only_processes
def test_result_that_cannot_be_sent_fails_in_its_place(pool: Any) -> None:
    classes = [int, str, threading.Lock, float]
    results = pool.map(tasks.make_instance, classes)
    assert [next(results), next(results)] == [0, ""]
    with pytest.raises(TypeError, match="pickle"):
        next(results)


@only_processes
def test_results_do_not_come_to_a_fork_of_the_program(
    make: Make, mailbox: Mailbox, gate: Gate
) -> None:
    executor = make(1)
    columns = map(itertools.repeat, (mailbox, gate, 1))
    results = executor.map(tasks.post_and_wait_if, range(3), *columns)
    assert next(results) == 0
    assert mailbox.take(2) == ["0", "1"]
    pid = os.fork()
    if pid == 0:
        try:
            next(results)
        except RuntimeError as error:
            os._exit(0 if "forked" in str(error) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    gate.open()
    assert list(results) == [1, 2]


@only_processes
def test_lazy_map_over_many_items_keeps_few(pool: Any) -> None:
    items = Counted(range(100_000))
    total = 0
    for place, result in enumerate(pool.map(tasks.double, items, buffersize=1000)):
        total += result
        assert items.taken <= place + 1001
    assert total == sum(2 * item for item in range(100_000))
