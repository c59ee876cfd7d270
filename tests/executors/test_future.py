"""States of a future, its callbacks, and how it is cancelled."""

from __future__ import annotations

import gc
import logging
import re
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from typing import Any

import pytest

from executors import tasks
from executors.conftest import Make
from executors.kinds import Kind
from executors.rendezvous import SOON_S, Gate, Mailbox

# Behind so many others a task is pending, whatever an executor hands to workers beforehand.
BACKLOG = 40

Blocked = tuple[Any, "Future[Any]"]


@pytest.fixture
def blocked(make: Make, mailbox: Mailbox, gate: Gate) -> Blocked:
    """An executor whose only worker waits at the gate, and the future of that."""
    executor = make(1)
    future = executor.submit(tasks.post_and_wait, mailbox, gate, "through")
    mailbox.take()
    return executor, future


def pending(executor: Any) -> Future[Any]:
    """A future that no worker of a blocked executor has been given."""
    return [executor.submit(tasks.double, item) for item in range(BACKLOG)][-1]


def test_states_of_a_future(blocked: Blocked, gate: Gate) -> None:
    executor, future = blocked
    assert (future.running(), future.done(), future.cancelled()) == (True, False, False)
    waiting = pending(executor)
    assert (waiting.running(), waiting.done(), waiting.cancelled()) == (False, False, False)
    gate.open()
    assert future.result() == "through"
    assert (future.running(), future.done(), future.cancelled()) == (False, True, False)
    assert waiting.result() == 2 * (BACKLOG - 1)
    assert (waiting.running(), waiting.done(), waiting.cancelled()) == (False, True, False)


def test_future_becomes_done_though_nobody_waits(pool: Any, mailbox: Mailbox) -> None:
    future = pool.submit(tasks.double, 21)
    for _ in range(10_000):
        if future.done():
            break
        threading.Event().wait(0.001)
    assert future.done()
    assert not future.running()


def test_representation_says_the_state(blocked: Blocked, gate: Gate) -> None:
    executor, future = blocked
    waiting = pending(executor)
    failed = executor.submit(tasks.raise_trouble)
    assert re.fullmatch(r"<Future at 0x[0-9a-f]+ state=running>", repr(future))
    assert re.fullmatch(r"<Future at 0x[0-9a-f]+ state=pending>", repr(waiting))
    waiting.cancel()
    assert re.fullmatch(r"<Future at 0x[0-9a-f]+ state=cancelled>", repr(waiting))
    gate.open()
    future.result()
    failed.exception()
    expected = r"<Future at 0x[0-9a-f]+ state=finished returned str>"
    assert re.fullmatch(expected, repr(future))
    expected = r"<Future at 0x[0-9a-f]+ state=finished raised Trouble>"
    assert re.fullmatch(expected, repr(failed))


def test_representation_of_a_result_that_nobody_has_asked_for(pool: Any) -> None:
    future = pool.submit(tasks.make_tracked)
    finished = threading.Event()
    future.add_done_callback(lambda _: finished.set())
    assert finished.wait(SOON_S)
    assert re.fullmatch(r"<Future at 0x[0-9a-f]+ state=finished returned Tracked>", repr(future))


@pytest.mark.parametrize("ask", [Future.result, Future.exception])
@pytest.mark.parametrize("timeout", [0, 0.01, -1])
def test_asking_with_a_timeout(
    blocked: Blocked, gate: Gate, ask: Callable[..., Any], timeout: float
) -> None:
    _, future = blocked
    with pytest.raises(TimeoutError):
        ask(future, timeout)
    with pytest.raises(TimeoutError):
        ask(future, timeout=timeout)
    gate.open()
    assert ask(future, timeout=SOON_S) in ("through", None)
    assert ask(future, timeout) in ("through", None)


def test_exception_is_none_if_all_went_well(pool: Any) -> None:
    assert pool.submit(int).exception(SOON_S) is None


# Cancelling


def test_running_task_cannot_be_cancelled(blocked: Blocked, gate: Gate) -> None:
    _, future = blocked
    assert not future.cancel()
    assert not future.cancelled()
    gate.open()
    assert future.result() == "through"


def test_finished_task_cannot_be_cancelled(pool: Any) -> None:
    future = pool.submit(tasks.double, 21)
    assert future.result() == 42
    assert not future.cancel()
    assert future.result() == 42


def test_pending_task_is_cancelled_and_never_run(
    blocked: Blocked, mailbox: Mailbox, gate: Gate
) -> None:
    executor, _ = blocked
    futures = [executor.submit(tasks.post, mailbox, item) for item in range(BACKLOG)]
    assert futures[-1].cancel()
    assert futures[-1].cancel(), "it is cancelled, however often one asks"
    assert (futures[-1].running(), futures[-1].done(), futures[-1].cancelled()) == (
        False,
        True,
        True,
    )
    with pytest.raises(CancelledError):
        futures[-1].result()
    with pytest.raises(CancelledError):
        futures[-1].exception(0)
    gate.open()
    executor.submit(tasks.post, mailbox, "the end").result()
    assert mailbox.take_all() == [*map(str, range(BACKLOG - 1)), "the end"]


def test_each_task_is_either_cancelled_or_run(
    blocked: Blocked, mailbox: Mailbox, gate: Gate
) -> None:
    executor, _ = blocked
    futures = [executor.submit(tasks.post, mailbox, item) for item in range(BACKLOG)]
    were_cancelled = [future.cancel() for future in futures]
    assert any(were_cancelled)
    gate.open()
    executor.shutdown()
    assert [future.cancelled() for future in futures] == were_cancelled
    ran = [str(item) for item, cancelled in enumerate(were_cancelled) if not cancelled]
    assert mailbox.take_all() == ran


# Callbacks


def test_callbacks_are_called_in_order_with_the_future(blocked: Blocked, gate: Gate) -> None:
    _, future = blocked
    calls: list[tuple[int, Any]] = []
    last = threading.Event()
    for number in range(5):
        future.add_done_callback(lambda each, number=number: calls.append((number, each)))  # type: ignore[misc]
    future.add_done_callback(lambda _: last.set())
    assert calls == []
    gate.open()
    assert last.wait(SOON_S)
    assert [number for number, _ in calls] == list(range(5))
    assert all(each is future for _, each in calls)


def test_callback_sees_a_future_that_is_done(blocked: Blocked, gate: Gate) -> None:
    _, future = blocked
    seen: list[Any] = []
    called = threading.Event()

    def callback(each: Future[Any]) -> None:
        seen.extend([each.done(), each.result(0), each.exception(0)])
        called.set()

    future.add_done_callback(callback)
    gate.open()
    assert called.wait(SOON_S)
    assert seen == [True, "through", None]


def test_callback_of_a_future_that_nobody_keeps(pool: Any) -> None:
    results: list[int] = []
    called = threading.Event()

    def callback(future: Future[int]) -> None:
        results.append(future.result())
        called.set()

    pool.submit(tasks.double, 21).add_done_callback(callback)
    gc.collect()
    assert called.wait(SOON_S)
    assert results == [42]


def test_callback_of_a_finished_future_is_called_at_once(pool: Any) -> None:
    future = pool.submit(tasks.double, 21)
    future.result()
    calls: list[tuple[Any, int]] = []
    future.add_done_callback(lambda each: calls.append((each, threading.get_ident())))
    assert calls == [(future, threading.get_ident())]


def test_callback_of_a_cancelled_future_is_called_once(blocked: Blocked, gate: Gate) -> None:
    executor, _ = blocked
    future = pending(executor)
    calls: list[bool] = []
    future.add_done_callback(lambda each: calls.append(each.cancelled()))
    future.cancel()
    assert calls == [True]
    future.add_done_callback(lambda each: calls.append(each.cancelled()))
    assert calls == [True, True]
    gate.open()
    executor.shutdown()
    assert calls == [True, True]


def test_callback_that_raises_is_logged_and_the_others_called(
    blocked: Blocked, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    executor, future = blocked

    def callback(_: Any) -> None:
        raise tasks.Trouble("the callback's")

    called = threading.Event()
    future.add_done_callback(callback)
    future.add_done_callback(lambda _: called.set())
    gate.open()
    assert called.wait(SOON_S)
    (record,) = [each for each in caplog.records if each.name == "concurrent.futures"]
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith("exception calling callback for <Future at 0x")
    assert "the callback's" in (record.exc_text or "")
    assert future.result() == "through"
    assert executor.submit(tasks.double, 21).result(SOON_S) == 42


def test_callback_of_a_finished_future_that_raises_is_logged(
    pool: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def callback(_: Any) -> None:
        raise tasks.Trouble("the callback's")

    future = pool.submit(int)
    future.result()
    future.add_done_callback(callback)
    assert [each.levelname for each in caplog.records] == ["ERROR"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("kind_of_error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_executor_survives_a_callback_that_raises_no_error(
    blocked: Blocked, gate: Gate, kind_of_error: type[BaseException]
) -> None:
    executor, future = blocked

    def callback(_: Any) -> None:
        raise kind_of_error("the callback's")

    future.add_done_callback(callback)
    gate.open()
    assert future.result(SOON_S) == "through"
    futures = [executor.submit(tasks.double, item) for item in range(BACKLOG)]
    assert [each.result(SOON_S) for each in futures] == [item * 2 for item in range(BACKLOG)]
    # Callbacks too go on.
    called = threading.Event()
    executor.submit(int).add_done_callback(lambda _: called.set())
    assert called.wait(SOON_S)


def test_callback_submits_more_work(pool: Any) -> None:
    results: list[int] = []
    finished = threading.Event()

    def callback(future: Future[int]) -> None:
        results.append(future.result())
        if len(results) == 10:
            finished.set()
        else:
            pool.submit(tasks.add, future.result(), 1).add_done_callback(callback)

    pool.submit(int).add_done_callback(callback)
    assert finished.wait(SOON_S)
    assert results == list(range(10))


def test_callback_waits_for_another_future(make: Make, gate: Gate) -> None:
    executor = make(2)
    results: list[int] = []
    called = threading.Event()

    def callback(_: Any) -> None:
        # Nobody else waits: the executor itself must go on meanwhile.
        results.append(executor.submit(tasks.double, 21).result(SOON_S))
        called.set()

    first = executor.submit(gate.wait)
    first.add_done_callback(callback)
    gate.open()
    assert called.wait(SOON_S)
    assert results == [42]


def test_callback_is_called_by_this_process(pool: Any) -> None:
    called = threading.Event()
    threads: list[threading.Thread] = []

    def callback(_: Any) -> None:
        threads.append(threading.current_thread())
        called.set()

    pool.submit(int).add_done_callback(callback)
    assert called.wait(SOON_S)
    assert len(threads) == 1


# What libraries reach for


def test_state_and_condition_are_those_of_the_stdlib(blocked: Blocked, gate: Gate) -> None:
    executor, future = blocked
    waiting = pending(executor)
    assert (future._state, waiting._state) == ("RUNNING", "PENDING")
    with future._condition:
        assert future._state == "RUNNING"
    waiting.cancel()
    assert waiting._state in ("CANCELLED", "CANCELLED_AND_NOTIFIED")
    gate.open()
    future.result()
    assert future._state == "FINISHED"
    with future._condition:
        assert future._state == "FINISHED"


def test_finished_future_takes_no_other_result(pool: Any) -> None:
    future = pool.submit(tasks.double, 21)
    assert future.result() == 42
    with pytest.raises(InvalidStateError):
        future.set_result(43)
    with pytest.raises(InvalidStateError):
        future.set_exception(tasks.Trouble("in vain"))
    assert future.result() == 42


def test_future_is_a_key_and_can_be_referred_to_weakly(kind: Kind, pool: Any) -> None:
    future = pool.submit(int)
    assert {future: 1}[future] == 1
    assert weakref.ref(future)() is future
    assert future != pool.submit(int)
    assert type(future).__name__ == "Future"


CYCLES: dict[str, Callable[[Any], object]] = {
    "attribute": lambda future: setattr(future, "itself", future),
    "dictionary": lambda future: vars(future).update(itself=future),
    "result": lambda future: future.result().append(future),
    "callback": lambda future: future.add_done_callback(lambda _, future=future: None),
    "waiter": lambda future: future._waiters.append(future),
}


@pytest.mark.parametrize("name", CYCLES)
def test_future_in_a_cycle_is_collected(pool: Any, name: str) -> None:
    future = pool.submit(list)
    future.result()
    CYCLES[name](future)
    reference = weakref.ref(future)
    del future
    gc.collect()
    assert reference() is None


def test_future_in_a_cycle_through_its_exception_is_collected(pool: Any) -> None:
    future = pool.submit(tasks.raise_trouble)
    future.exception().future = future
    reference = weakref.ref(future)
    del future
    gc.collect()
    assert reference() is None


def test_collector_is_not_troubled_by_futures_that_refer_to_nothing(pool: Any) -> None:
    futures = [pool.submit(int) for _ in range(10)]
    assert not any(gc.is_tracked(future) for future in futures)
    assert [future.result() for future in futures] == [0] * 10
    assert not any(gc.is_tracked(future) for future in futures)
    futures[1].note = "kept"
    assert gc.is_tracked(futures[1])
