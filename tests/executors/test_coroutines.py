"""Coroutine functions as tasks: each worker runs them in an event loop of its own."""

from __future__ import annotations

import functools
import traceback
from typing import Any

import pytest

from executors import tasks
from executors.conftest import Make
from executors.kinds import Kind
from executors.rendezvous import SOON_S


@pytest.mark.parametrize(
    "function",
    [
        tasks.double_async,
        functools.partial(tasks.double_async),
        tasks.Doubler().multiply_async,
    ],
    ids=["function", "partial", "method"],
)
def test_task_gives_the_result_of_the_coroutine(pool: Any, function: Any) -> None:
    assert pool.submit(function, 21).result(SOON_S) == 42


def test_exception_of_a_coroutine(pool: Any) -> None:
    future = pool.submit(tasks.raise_async, "in vain")
    error = future.exception(SOON_S)
    assert type(error) is tasks.Trouble
    assert error.args == ("in vain", 0)
    assert "raise Trouble(text)" in "".join(traceback.format_exception(error))


def test_event_loop_stays_the_same(make: Make) -> None:
    executor = make(1)
    first = executor.submit(tasks.index_of_loop).result(SOON_S)
    assert executor.submit(tasks.double, 21).result(SOON_S) == 42
    for _ in range(3):
        assert executor.submit(tasks.index_of_loop).result(SOON_S) == first


def test_each_thread_has_an_event_loop(kind: Kind, make: Make) -> None:
    if kind.has_processes:
        pytest.skip("processes share nothing")
    first = make(1).submit(tasks.index_of_loop).result(SOON_S)
    assert make(1).submit(tasks.index_of_loop).result(SOON_S) != first
    tasks.LOOPS.clear()


def test_coroutine_may_start_others(pool: Any) -> None:
    assert pool.submit(tasks.gather_doubles, [1, 2, 3]).result(SOON_S) == [2, 4, 6]


@pytest.mark.parametrize("chunksize", [1, 3])
def test_map_runs_coroutine_functions(pool: Any, chunksize: int) -> None:
    results = pool.map(tasks.double_async, range(8), chunksize=chunksize)
    assert list(results) == [item * 2 for item in range(8)]
