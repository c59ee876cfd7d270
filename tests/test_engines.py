"""The contract of engines, written once and run for every engine and model offered here."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ungil import _core, engines
from ungil.engines import ENGINES, Setup

# From 3.12 on Python warns where a pool forks in a process that has other threads, as this one
# may have from other tests; that choice is the engine's.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

IN_PROCESSES = {"processes", "processes_threads"}


def double(item: int) -> int:
    return item * 2


async def double_async(item: int) -> int:
    await asyncio.sleep(0.001)
    return item * 2


def later_ones_first(item: int) -> int:
    time.sleep(0.002 * (8 - item))
    return item


async def later_ones_first_async(item: int) -> int:
    await asyncio.sleep(0.002 * (8 - item))
    return item


def fails_at_three(item: int) -> int:
    if item == 3:
        raise LookupError("three")
    return item


async def fails_at_three_async(item: int) -> int:
    return fails_at_three(item)


FUNCTIONS = {
    double: double_async,
    later_ones_first: later_ones_first_async,
    fails_at_three: fails_at_three_async,
}

ENGINES_AND_MODELS = [(name, model) for name in ENGINES for model in engines.find(name).models()]


class Case:
    """One engine, one model, and whether the tasks are coroutine functions."""

    def __init__(self, engine: str, model: str, is_coroutine: bool) -> None:
        self.engine, self.model, self.is_coroutine = engine, model, is_coroutine
        workers = 1 if model == "serial" else 2
        threads = 2 if model == "processes_threads" else 1
        self.setup = Setup(model, workers, threads, is_coroutine)
        # The stdlib's processes with threads get several tasks at once.
        self.is_in_parts = (engine, model) == ("stdlib", "processes_threads")

    def function(self, function: Callable[[int], int]) -> Callable[[int], Any]:
        return FUNCTIONS[function] if self.is_coroutine else function

    @contextlib.contextmanager
    def pool(self) -> Iterator[engines.Pool]:
        pool = engines.find(self.engine).open(self.setup)
        try:
            yield pool
        finally:
            pool.close()


@pytest.fixture(
    params=[(*each, kind) for each in ENGINES_AND_MODELS for kind in (False, True)],
    ids=lambda param: f"{param[0]}-{param[1]}-{'coroutine' if param[2] else 'function'}",
)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(*request.param)


def test_every_engine_is_named_as_it_is_found() -> None:
    for name in ENGINES:
        assert engines.find(name).name == name
        assert engines.find(name).models()


def test_engine_that_is_not_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(LookupError, match=r"no engine .celery.*stdlib"):
        engines.find("celery")
    with pytest.raises(LookupError, match="no_such_module"):
        engines.find("no_such_module:ENGINE")


def test_engine_of_ones_own_is_found_by_module_and_attribute() -> None:
    assert engines.find("ungil.engines.stdlib:ENGINE") is engines.find("stdlib")


@pytest.mark.parametrize("function", [double, later_ones_first])
def test_results_come_in_the_order_of_the_items(case: Case, function: Callable[[int], int]) -> None:
    items = range(8)
    with case.pool() as pool:
        first = pool.run(case.function(function), items)
        second = pool.run(case.function(function), items)
    expected = [item * 2 for item in items] if function is double else list(items)
    assert first == second == expected


@pytest.mark.parametrize("count", [0, 1, 5])
def test_any_number_of_items_is_run(case: Case, count: int) -> None:
    with case.pool() as pool:
        assert pool.run(case.function(double), range(count)) == [item * 2 for item in range(count)]


def test_ticking_run_gives_the_same_results(case: Case) -> None:
    ticker = FakeTicker()
    with case.pool() as pool:
        results = pool.run_ticking(case.function(later_ones_first), range(8), ticker)  # type: ignore[arg-type]
    assert results == list(range(8))
    if case.model == "serial":
        assert ticker.turns == 0, "a serial loop leaves the caller no turn"
    else:
        assert ticker.turns > 0


class FakeTicker:
    """Counts turns instead of measuring them."""

    def __init__(self) -> None:
        self.turns = 0

    def wait(self) -> None:
        # Gives the workers the GIL, as the real one does.
        time.sleep(0)
        self.turns += 1

    def turn(self) -> None:
        self.turns += 1

    def until_due_s(self) -> float:
        return 0.001


def test_exception_of_a_task_comes_out_and_says_which(case: Case) -> None:
    with case.pool() as pool:
        with pytest.raises(LookupError, match="three") as caught:
            pool.run(case.function(fails_at_three), range(6))
        # Pool.map of multiprocessing does not tell, nor a loop that awaits one after the other.
        task = getattr(caught.value, "ungil_task", None)
        assert task in (3, None)
        if case.engine in ("ungil", "stdlib") and not case.is_in_parts:
            assert task == 3


def test_exception_in_a_ticking_run_says_which_task(case: Case) -> None:
    with case.pool() as pool, pytest.raises(LookupError, match="three") as caught:
        pool.run_ticking(case.function(fails_at_three), range(6), FakeTicker())  # type: ignore[arg-type]
    if not case.is_in_parts and case.model != "asyncio":
        assert caught.value.ungil_task == 3  # type: ignore[attr-defined]


def test_pool_goes_on_after_an_exception(case: Case) -> None:
    with case.pool() as pool:
        with pytest.raises(LookupError):
            pool.run(case.function(fails_at_three), range(6))
        assert pool.run(case.function(double), range(4)) == [0, 2, 4, 6]


def test_start_reports_every_worker(case: Case) -> None:
    before_ns = _core.monotonic_ns()
    with case.pool() as pool:
        first_result_ns, workers = pool.start(_core.monotonic_ns)
        after_ns = _core.monotonic_ns()
    assert before_ns < first_result_ns < after_ns
    assert all(before_ns < began_ns < after_ns for _, _, began_ns in workers)
    distinct = {(pid, thread) for pid, thread, _ in workers}
    if case.model == "asyncio":
        assert len(distinct) == 1, "the event loop starts its threads as tasks come"
    elif case.model == "serial":
        assert distinct == {(os.getpid(), threading.get_ident())}
    else:
        assert len(distinct) == case.setup.workers
    is_elsewhere = {pid for pid, _ in distinct} != {os.getpid()}
    assert is_elsewhere == (case.model in IN_PROCESSES)


def test_start_reports_every_process_of_many() -> None:
    setup = Setup("processes_threads", 6, 2, False)
    pool = engines.find("ungil").open(setup)
    try:
        _, workers = pool.start(_core.monotonic_ns)
    finally:
        pool.close()
    assert len({pid for pid, _, _ in workers}) == len(workers) == 6


def test_logged_run_says_who_ran_what_when(case: Case) -> None:
    before_ns = time.monotonic_ns()
    with case.pool() as pool:
        records = pool.run_logged(case.function(later_ones_first), range(8))
    after_ns = time.monotonic_ns()
    assert [record[0] for record in records] == list(range(8))
    for _, pid, process, thread, start_ns, finish_ns in records:
        assert before_ns <= start_ns < finish_ns <= after_ns
        assert (pid == os.getpid()) == (case.model not in IN_PROCESSES)
        assert (process == "MainProcess") == (case.model not in IN_PROCESSES)
        assert thread
    if case.model == "serial":
        ends = [(record[4], record[5]) for record in records]
        assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(ends))


def test_sharing_is_what_the_model_promises(case: Case) -> None:
    with case.pool() as pool:
        shares = case.model not in IN_PROCESSES | {"interpreters"}
        assert pool.probe_sharing() == (shares, shares)


async def name_loop(item: int) -> tuple[int, int, int]:
    await asyncio.sleep(0.001)
    return os.getpid(), threading.get_ident(), id(asyncio.get_running_loop())


@pytest.mark.parametrize(("engine", "model"), ENGINES_AND_MODELS)
def test_coroutines_of_all_runs_find_the_same_event_loop(engine: str, model: str) -> None:
    # What a function keeps of its loop, such as a client's session, must stay good.
    with Case(engine, model, is_coroutine=True).pool() as pool:
        seen = pool.run_ticking(name_loop, range(8), FakeTicker())  # type: ignore[arg-type]
        seen += pool.run(name_loop, range(8))
        seen += [record[0] for record in pool.run_logged(name_loop, range(8))]
    threads = {(pid, thread) for pid, thread, _ in seen}
    assert len(set(seen)) == len(threads)


def test_close_ends_all_workers(case: Case) -> None:
    threads = set(threading.enumerate())
    with case.pool() as pool:
        pool.start(_core.monotonic_ns)
        pool.run(case.function(double), range(8))
    assert set(threading.enumerate()) == threads
    assert multiprocessing.active_children() == []


def test_close_is_fine_without_a_run(case: Case) -> None:
    threads = set(threading.enumerate())
    with case.pool():
        pass
    assert set(threading.enumerate()) == threads
    assert multiprocessing.active_children() == []


def test_submitted_task_is_done_once_it_has_its_result(case: Case) -> None:
    with case.pool() as pool:
        handle = pool.submit(pool.prepare(double), 21) if not case.is_coroutine else None
        if handle is not None:
            assert handle.result() == 42
            assert handle.done()
