"""What goes wrong with one task is that task's trouble: the others and the executor go on."""

from __future__ import annotations

import concurrent.futures
import os
import pickle
import re
import signal
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest
import ungil

from executors import tasks
from executors.conftest import Make, only_processes
from executors.kinds import Kind
from executors.rendezvous import SOON_S, Gate, Mailbox

pytestmark = only_processes

UNPICKLABLE = (TypeError, pickle.PicklingError)


@pytest.fixture
def bystander(pool: Any, mailbox: Mailbox, gate: Gate) -> Iterator[Any]:
    """A shared executor with a task that runs all the while; all must go on as if nothing was."""
    running = pool.submit(tasks.post_and_wait, mailbox, gate, "unharmed")
    mailbox.take()
    waiting = [pool.submit(tasks.double, item) for item in range(20)]
    yield pool
    assert [future.result(SOON_S) for future in waiting] == [item * 2 for item in range(20)]
    assert pool.submit(tasks.double, 21).result(SOON_S) == 42
    assert not running.done()
    gate.open()
    assert running.result(SOON_S) == "unharmed"


def text_of(error: BaseException) -> str:
    """All that Python would print of an exception."""
    return "".join(traceback.format_exception(error))


def test_argument_that_cannot_be_pickled(bystander: Any) -> None:
    error = bystander.submit(tasks.echo, threading.Lock()).exception(SOON_S)
    assert isinstance(error, UNPICKLABLE)
    assert "lock" in str(error)
    error = bystander.submit(tasks.echo, tasks.FailsWhenPickled()).exception(SOON_S)
    assert isinstance(error, pickle.PicklingError)
    assert "not to be pickled" in str(error)


def test_argument_of_map_that_cannot_be_pickled(bystander: Any) -> None:
    results = bystander.map(tasks.length, ["one", threading.Lock(), "three"])
    assert next(results) == 3
    with pytest.raises(UNPICKLABLE, match="lock"):
        next(results)


def test_argument_that_cannot_be_rebuilt(bystander: Any) -> None:
    error = bystander.submit(tasks.echo, tasks.FailsWhenRebuilt()).exception(SOON_S)
    assert isinstance(error, Exception)
    assert "not to be rebuilt" in text_of(error)


def test_result_that_cannot_be_pickled(bystander: Any) -> None:
    error = bystander.submit(threading.Lock).exception(SOON_S)
    assert isinstance(error, UNPICKLABLE)
    assert "lock" in str(error)
    error = bystander.submit(tasks.make_instance, tasks.FailsWhenPickled).exception(SOON_S)
    assert isinstance(error, pickle.PicklingError)


def test_result_that_cannot_be_rebuilt(bystander: Any) -> None:
    future = bystander.submit(tasks.make_instance, tasks.FailsWhenRebuilt)
    error = future.exception(SOON_S)
    assert isinstance(error, Exception)
    assert "not to be rebuilt" in text_of(error)
    assert future.exception() is error
    with pytest.raises(type(error)) as caught:
        future.result()
    assert caught.value is error


def test_result_that_ends_the_program_when_it_is_rebuilt(bystander: Any) -> None:
    class_ = tasks.ExitsWhenRebuilt
    error = bystander.submit(tasks.make_instance, class_).exception(SOON_S)
    assert error is not None
    assert "SystemExit" in text_of(error)


def test_result_that_cannot_be_rebuilt_and_nobody_asks_for(bystander: Any) -> None:
    called = threading.Event()
    future = bystander.submit(tasks.make_instance, tasks.FailsWhenRebuilt)
    future.add_done_callback(lambda _: called.set())
    assert called.wait(SOON_S)
    assert future.exception() is not None


def test_exception_that_cannot_be_pickled(bystander: Any) -> None:
    error = bystander.submit(tasks.raise_unpicklable).exception(SOON_S)
    assert isinstance(error, Exception)
    # What the task raised is said, and why it could not come itself.
    assert "the first trouble" in text_of(error)
    assert "lock" in text_of(error)


def test_exception_that_cannot_be_rebuilt(bystander: Any) -> None:
    error = bystander.submit(tasks.raise_not_rebuilt).exception(SOON_S)
    assert isinstance(error, Exception)
    text = text_of(error)
    assert "NeedsTwo" in text
    assert "the first trouble" in text
    assert "in raise_not_rebuilt" in text
    assert "missing 1 required positional argument" in text


def test_exceptions_that_cannot_travel_in_a_map(bystander: Any) -> None:
    results = bystander.map(tasks.raise_not_rebuilt_at, range(3), [1] * 3)
    assert next(results) == 0
    with pytest.raises(Exception) as caught:  # noqa: PT011
        next(results)
    assert "the first trouble" in text_of(caught.value)


DEATHS = {
    "SIGKILL": (tasks.kill_me, signal.SIGKILL, r"SIGKILL|signal 9\b"),
    "SIGSEGV": (tasks.kill_me, signal.SIGSEGV, r"SIGSEGV|signal 11\b"),
    "SIGTERM": (tasks.kill_me, signal.SIGTERM, r"SIGTERM|signal 15\b"),
    "exit-3": (tasks.exit_me, 3, r"\b3\b"),
    "exit-0": (tasks.exit_me, 0, r"\b0\b"),
}


@pytest.mark.parametrize("death", DEATHS)
def test_death_of_a_worker_fails_its_task_only(bystander: Any, death: str) -> None:
    die, argument, sign = DEATHS[death]
    pids = set(bystander._processes)
    error = bystander.submit(die, argument).exception(SOON_S)
    assert isinstance(error, ungil.WorkerCrashed)
    assert isinstance(error, BrokenProcessPool)
    assert re.search(sign, str(error)), str(error)
    assert any(re.search(rf"\b{pid}\b", str(error)) for pid in pids), str(error)


def test_worker_that_somebody_kills(make: Make, mailbox: Mailbox, gate: Gate) -> None:
    executor = make(2)
    futures = [executor.submit(tasks.post_pid_and_wait, mailbox, gate) for _ in range(2)]
    waiting = [executor.submit(tasks.double, item) for item in range(20)]
    killed, spared = map(int, mailbox.take(2))
    os.kill(killed, signal.SIGKILL)
    done, _ = concurrent.futures.wait(futures, SOON_S, concurrent.futures.FIRST_COMPLETED)
    (crashed,) = done
    error = crashed.exception()
    assert isinstance(error, ungil.WorkerCrashed)
    assert str(killed) in str(error)
    # What waited is run by whoever is there, the one that came for the dead included.
    assert [future.result(SOON_S) for future in waiting] == [item * 2 for item in range(20)]
    gate.open()
    (survivor,) = set(futures) - done
    assert survivor.result(SOON_S) == spared


def test_idle_worker_that_somebody_kills(make: Make) -> None:
    executor = make(1)
    pid = executor.submit(os.getpid).result()
    os.kill(pid, signal.SIGKILL)
    futures = [executor.submit(os.getpid) for _ in range(10)]
    crashed = [future for future in futures if future.exception(SOON_S) is not None]
    # The first may have been taken in the very moment.
    assert len(crashed) <= 1
    assert all(isinstance(future.exception(), ungil.WorkerCrashed) for future in crashed)
    assert pid not in {future.result() for future in futures if future not in crashed}


def test_only_worker_dies_with_tasks_waiting(make: Make) -> None:
    executor = make(1)
    first = executor.submit(tasks.double, 1)
    crashing = executor.submit(tasks.kill_me)
    others = [executor.submit(tasks.double, item) for item in range(20)]
    assert first.result(SOON_S) == 2
    assert isinstance(crashing.exception(SOON_S), ungil.WorkerCrashed)
    assert [future.result(SOON_S) for future in others] == [item * 2 for item in range(20)]


def test_workers_die_one_after_the_other(make: Make) -> None:
    executor = make(2)
    futures = [executor.submit(tasks.kill_me_if, item, item // 5 * 5) for item in range(10)]
    crashed = [item for item, future in enumerate(futures) if future.exception(SOON_S)]
    assert crashed == [0, 5]
    executor.shutdown()


def test_death_in_a_chunk_costs_one_item(make: Make, mailbox: Mailbox) -> None:
    executor = make(1)
    results = executor.map(tasks.post_and_kill_me_if, range(8), [5] * 8, [mailbox] * 8, chunksize=8)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ungil.WorkerCrashed):
        next(results)
    executor.shutdown()
    # No item is run twice.
    lines = mailbox.take_all()
    assert lines[:6] == ["0", "1", "2", "3", "4", "5"]
    assert lines[6:] in (["6", "7"], ["6"], [])


def test_death_after_shutdown_has_begun(make: Make, mailbox: Mailbox, gate: Gate) -> None:
    executor = make(1)
    future = executor.submit(tasks.wait_and_kill_me, mailbox, gate)
    other = executor.submit(tasks.double, 21)
    mailbox.take()
    executor.shutdown(wait=False)
    gate.open()
    assert isinstance(future.exception(SOON_S), ungil.WorkerCrashed)
    assert other.result(SOON_S) == 42


def test_death_with_a_large_argument(make: Make) -> None:
    executor = make(1)
    futures = [executor.submit(tasks.kill_me_with, bytes(4 << 20)) for _ in range(2)]
    for future in futures:
        assert isinstance(future.exception(SOON_S), ungil.WorkerCrashed)
    assert executor.submit(tasks.length, bytes(4 << 20)).result(SOON_S) == 4 << 20


def test_death_wakes_callbacks_and_those_who_wait(make: Make) -> None:
    executor = make(1)
    called = threading.Event()
    future = executor.submit(tasks.kill_me)
    future.add_done_callback(lambda _: called.set())
    done, _ = concurrent.futures.wait([future], SOON_S)
    assert done == {future}
    assert called.wait(SOON_S)


def test_new_worker_is_initialized_like_the_first(make: Make) -> None:
    executor = make(1, initializer=tasks.set_state, initargs=("set",))
    assert executor.submit(tasks.read_state).result(SOON_S) == "set"
    assert executor.submit(tasks.kill_me).exception(SOON_S) is not None
    assert executor.submit(tasks.read_state).result(SOON_S) == "set"


def test_crash_says_what_libraries_expect(kind: Kind) -> None:
    assert issubclass(ungil.WorkerCrashed, BrokenProcessPool)
    assert issubclass(ungil.WorkerCrashed, concurrent.futures.BrokenExecutor)
    assert kind.has_processes
