"""Tasks, their results and their exceptions."""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import functools
import os
import threading
import traceback
import weakref
from concurrent.futures import CancelledError
from typing import Any

import pytest

from executors import tasks
from executors.conftest import Make, Rendezvous, only_processes, only_threads
from executors.kinds import Kind
from executors.rendezvous import SOON_S, Gate, Mailbox


def test_classes_are_those_of_the_stdlib(kind: Kind, pool: Any) -> None:
    assert isinstance(pool, concurrent.futures.Executor)
    stdlib = (
        concurrent.futures.ProcessPoolExecutor
        if kind.has_processes
        else concurrent.futures.ThreadPoolExecutor
    )
    assert isinstance(pool, stdlib)
    assert type(pool).__name__ == stdlib.__name__


def test_result_is_what_the_function_returns(pool: Any) -> None:
    future = pool.submit(tasks.add, 2, 3)
    assert isinstance(future, concurrent.futures.Future)
    assert future.result() == 5
    assert future.exception() is None


def test_arguments_of_any_name_go_to_the_function(pool: Any) -> None:
    future = pool.submit(tasks.capture, 1, "two", self=3, fn=4, timeout=5, args=6)
    expected = ((1, "two"), {"self": 3, "fn": 4, "timeout": 5, "args": 6})
    assert future.result() == expected


def test_function_is_given_by_position(pool: Any) -> None:
    with pytest.raises(TypeError):
        pool.submit(fn=tasks.double, item=1)
    with pytest.raises(TypeError):
        pool.submit()


@pytest.mark.parametrize(
    "function",
    [
        tasks.double,
        functools.partial(tasks.add, 21),
        tasks.Doubler().multiply,
        tasks.Doubler(),
        (21).__add__,
    ],
    ids=["function", "partial", "method", "callable", "builtin"],
)
def test_whatever_can_be_called_is_run(pool: Any, function: Any) -> None:
    assert pool.submit(function, 21).result() == 42


def test_class_is_called_like_a_function(pool: Any) -> None:
    assert pool.submit(tasks.Point, 1.0, y=2.0).result() == tasks.Point(1.0, 2.0)


def test_what_cannot_be_called_fails_the_future(pool: Any) -> None:
    with pytest.raises(TypeError, match="not callable"):
        pool.submit(42).result()


def test_task_runs_where_it_should(kind: Kind, pool: Any) -> None:
    pid, thread = pool.submit(tasks.where).result()
    assert (pid != os.getpid()) == kind.has_processes
    assert (pid, thread) != (os.getpid(), threading.get_ident())


def test_exception_comes_out_as_it_was_raised(pool: Any) -> None:
    future = pool.submit(tasks.raise_trouble, "in vain", 7)
    with pytest.raises(tasks.Trouble) as caught:
        future.result()
    assert type(caught.value) is tasks.Trouble
    assert caught.value.args == ("in vain", 7)
    assert caught.value.number == 7


@pytest.mark.parametrize("kind_of_error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_exception_that_is_no_error_comes_out_too(
    pool: Any, kind_of_error: type[BaseException]
) -> None:
    future = pool.submit(tasks.raise_this, kind_of_error("by the task"))
    assert type(future.exception()) is kind_of_error
    with pytest.raises(kind_of_error, match="by the task"):
        future.result()
    assert pool.submit(tasks.double, 4).result() == 8


def test_stop_iteration_comes_out_too(pool: Any) -> None:
    assert type(pool.submit(next, iter(())).exception()) is StopIteration


def test_exception_shows_the_line_that_raised_it(kind: Kind, pool: Any) -> None:
    error = pool.submit(tasks.raise_trouble).exception()
    text = "".join(traceback.format_exception(error))
    assert "raise Trouble(text, number)  # the line of the trouble" in text
    assert "in raise_trouble" in text
    if kind.has_processes:
        # Libraries look for exactly this class.
        remote = concurrent.futures.process._RemoteTraceback  # type: ignore[attr-defined]
        assert type(error.__cause__) is remote
        assert "# the line of the trouble" in error.__cause__.tb
        assert str(error.__cause__) == error.__cause__.tb


def test_cause_of_an_exception_is_shown(pool: Any) -> None:
    error = pool.submit(tasks.raise_from, "the second trouble").exception()
    text = "".join(traceback.format_exception(error))
    assert "the first trouble" in text
    assert "the second trouble" in text
    assert "direct cause" in text


def test_notes_and_attributes_of_an_exception_come_along(pool: Any) -> None:
    error = pool.submit(tasks.raise_with_note, "in vain").exception()
    assert error.__notes__ == ["a note on it"]
    assert error.extra == {"attribute": 1}


def test_group_of_exceptions_comes_out(pool: Any) -> None:
    group = pool.submit(tasks.raise_group).exception()
    assert isinstance(group, ExceptionGroup)
    assert [type(each) for each in group.exceptions] == [ValueError, tasks.Trouble]
    assert group.exceptions[1].args == ("two", 2)


def test_result_and_exception_are_the_same_object_each_time(pool: Any) -> None:
    future = pool.submit(tasks.make_tracked)
    assert future.result() is future.result()
    failed = pool.submit(tasks.raise_trouble)
    assert failed.exception() is failed.exception()
    with pytest.raises(tasks.Trouble) as caught:
        failed.result()
    assert caught.value is failed.exception()


def test_result_is_the_same_object_for_all_who_wait(pool: Any, gate: Gate) -> None:
    future = pool.submit(gate.wait, ["result"])
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda: results.append(future.result(SOON_S))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    gate.open()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert all(result is future.result() for result in results)


@only_threads
def test_objects_are_shared_with_threads(pool: Any) -> None:
    thing = object()
    assert pool.submit(tasks.echo, thing).result() is thing
    error = tasks.Trouble("in vain")
    assert pool.submit(tasks.raise_this, error).exception() is error
    assert error.__cause__ is None


@only_processes
def test_objects_are_not_shared_with_processes(pool: Any) -> None:
    things: list[int] = []
    result = pool.submit(tasks.echo, things).result()
    assert result == things
    assert result is not things


def test_argument_is_what_it_was_when_submitted(kind: Kind, make: Make, gate: Gate) -> None:
    if not kind.has_processes:
        pytest.skip("threads share it")
    executor = make(1)
    blocked = executor.submit(gate.wait)
    argument = [1]
    # Behind so many that it has not been sent.
    fillers = [executor.submit(int) for _ in range(40)]
    future = executor.submit(tasks.echo, argument)
    del fillers
    gate.open()
    blocked.result()
    assert future.result() == [1]


def test_tasks_of_one_worker_run_in_order(make: Make, mailbox: Mailbox) -> None:
    executor = make(1)
    futures = [executor.submit(mailbox.post, item) for item in range(30)]
    for future in futures:
        future.result()
    assert mailbox.take(30) == [str(item) for item in range(30)]


def test_many_small_tasks(pool: Any) -> None:
    futures = [pool.submit(tasks.double, item) for item in range(2000)]
    assert [future.result() for future in futures] == [item * 2 for item in range(2000)]


def test_many_results_wait_until_they_are_asked_for(pool: Any) -> None:
    futures = [pool.submit(tasks.make_bytes, 256 * 1024) for _ in range(100)]
    done, _ = concurrent.futures.wait(futures, SOON_S)
    assert len(done) == 100
    assert {len(future.result()) for future in futures} == {256 * 1024}


def test_many_large_arguments_wait_for_a_worker(make: Make, gate: Gate) -> None:
    executor = make(1)
    executor.submit(gate.wait)
    futures = [executor.submit(tasks.length, bytes(256 * 1024)) for _ in range(100)]
    gate.open()
    assert {future.result() for future in futures} == {256 * 1024}


def test_many_threads_submit_and_wait_at_once(pool: Any) -> None:
    results: dict[int, list[int]] = {}

    def submit(number: int) -> None:
        results[number] = [pool.submit(tasks.add, number, item).result() for item in range(50)]

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: [number + item for item in range(50)] for number in range(8)}


def test_workers_run_tasks_at_the_same_time(make: Make, mailbox: Mailbox, gate: Gate) -> None:
    executor = make(2)
    futures = [executor.submit(tasks.post_and_wait, mailbox, gate, item) for item in range(2)]
    mailbox.take(2)
    assert not any(future.done() for future in futures)
    gate.open()
    assert [future.result() for future in futures] == [0, 1]


def test_slow_task_keeps_no_other_waiting(make: Make, gate: Gate, mailbox: Mailbox) -> None:
    # Also none that was handed to the same worker while nobody knew that it would be slow.
    executor = make(2)
    slow = executor.submit(tasks.post_and_wait, mailbox, gate)
    mailbox.take()
    others = [executor.submit(tasks.double, item) for item in range(200)]
    assert [future.result(SOON_S) for future in others] == [item * 2 for item in range(200)]
    assert not slow.done()


def test_task_that_nobody_asks_for_is_run(make: Make, mailbox: Mailbox) -> None:
    executor = make(2)
    for item in range(20):
        executor.submit(mailbox.post, item)
    assert {int(line) for line in mailbox.take(20)} == set(range(20))


def test_hundred_tasks_finish_while_the_caller_computes(make: Make, mailbox: Mailbox) -> None:
    executor = make(4)
    futures = [executor.submit(tasks.sleep_and_post, 0.01, mailbox, item) for item in range(100)]
    lines: list[str] = []
    while len(lines) < 100:
        # Holds the GIL nearly all the time, and touches no future.
        sum(range(5_000))
        lines += mailbox.take_all()
    assert {int(line) for line in lines} == set(range(100))
    assert all(future.result() is None for future in futures)


def test_nothing_keeps_an_argument_or_a_result(pool: Any) -> None:
    tracked = tasks.Tracked()
    gone = threading.Event()
    weakref.finalize(tracked, gone.set)
    # The future is dropped, and nobody calls the executor again.
    pool.submit(tracked.method)
    del tracked
    assert gone.wait(SOON_S)
    future = pool.submit(tasks.make_tracked)
    result = weakref.ref(future.result())
    assert result() is not None
    del future
    # A worker thread may hold it for a moment more.
    give_up = threading.Event()
    for _ in range(1000):
        if result() is None:
            break
        give_up.wait(0.005)
    assert result() is None


def test_worker_lets_go_of_an_argument_when_the_task_is_done(pool: Any, mailbox: Mailbox) -> None:
    pool.submit(tasks.post_deaths, tasks.Tracked(), mailbox)
    assert mailbox.take() == ["gone"]


@only_threads
def test_thread_local_values_stay_in_their_thread(make: Make) -> None:
    executor = make(1)
    assert [executor.submit(tasks.count_in_thread).result() for _ in range(3)] == [1, 2, 3]
    assert make(1).submit(tasks.count_in_thread).result() == 1
    assert not hasattr(tasks.LOCAL, "count")


def test_context_variables_of_the_caller_are_its_own(make: Make) -> None:
    token = tasks.VARIABLE.set("the caller's")
    try:
        executor = make(1)
        seen = executor.submit(tasks.read_and_set_variable, "the task's").result()
        assert seen in ("unset", "the caller's")
        assert tasks.VARIABLE.get() == "the caller's"
    finally:
        tasks.VARIABLE.reset(token)


@only_threads
def test_tasks_submit_to_their_own_executor(make: Make) -> None:
    executor = make(2)

    def descend(depth: int) -> Any:
        return executor.submit(descend, depth - 1) if depth else "the bottom"

    future = executor.submit(descend, 20)
    for _ in range(20):
        future = future.result(SOON_S)
    assert future.result(SOON_S) == "the bottom"


@only_threads
def test_tasks_wait_for_others_of_their_executor(make: Make) -> None:
    executor = make(2)
    future = executor.submit(lambda: executor.submit(tasks.double, 21).result(SOON_S))
    assert future.result(SOON_S) == 42


def test_executor_in_a_task_of_an_executor(kind: Kind, pool: Any) -> None:
    pid, result = pool.submit(tasks.in_nested, kind.name, 21).result(SOON_S)
    assert result == 42
    assert (pid != os.getpid()) == kind.has_processes


def test_two_executors_do_not_disturb_each_other(make: Make, gate: Gate) -> None:
    blocked = make(1).submit(gate.wait, "first")
    assert make(1).submit(tasks.double, 21).result(SOON_S) == 42
    gate.open()
    assert blocked.result(SOON_S) == "first"


def test_subclass_sees_every_task(kind: Kind) -> None:
    submitted: list[Any] = []

    class Counting(kind.class_):  # type: ignore[misc, name-defined]
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            submitted.append(args)
            return super().submit(fn, *args, **kwargs)

    with Counting(1, **kind.options()) as executor:
        assert executor.submit(tasks.double, 1).result() == 2
        assert list(executor.map(tasks.double, range(3))) == [0, 2, 4]
    assert len(submitted) == 4


def test_submit_can_be_replaced_on_an_executor(make: Make) -> None:
    executor = make(1)
    submit, submitted = executor.submit, []

    def replaced(fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        submitted.append(args)
        return submit(fn, *args, **kwargs)

    executor.submit = replaced
    assert executor.submit(tasks.double, 21).result() == 42
    assert list(executor.map(tasks.double, range(3))) == [0, 2, 4]
    assert len(submitted) == 4


def test_waiting_in_vain_leaves_the_future_to_others(
    make: Make, rendezvous: Rendezvous, mailbox: Mailbox
) -> None:
    executor = make(2)
    first, second = rendezvous.gate(), rendezvous.gate()
    slow = executor.submit(tasks.post_and_wait, mailbox, first, "slow")
    fast = executor.submit(tasks.post_and_wait, mailbox, second, "fast")
    mailbox.take(2)
    results: list[Any] = []
    waiting = threading.Thread(target=lambda: results.append(slow.result(SOON_S)))
    waiting.start()
    with pytest.raises(TimeoutError):
        slow.result(0.01)
    second.open()
    assert fast.result(SOON_S) == "fast"
    assert results == []
    first.open()
    waiting.join()
    assert results == ["slow"]


def test_cancelling_wakes_those_who_wait(make: Make, mailbox: Mailbox, gate: Gate) -> None:
    executor = make(1)
    blocked = executor.submit(tasks.post_and_wait, mailbox, gate)
    mailbox.take()
    future = [executor.submit(int) for _ in range(40)][-1]
    caught: list[BaseException] = []
    waits = threading.Event()

    def wait() -> None:
        waits.set()
        try:
            future.result(SOON_S)
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    waits.wait()
    assert future.cancel()
    thread.join()
    assert [type(error) for error in caught] == [CancelledError]
    assert not blocked.done()
