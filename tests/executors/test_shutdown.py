"""Shutting down, being forgotten, and what is left then."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from typing import Any

import pytest
from leftovers import wait_until

from executors import tasks
from executors.conftest import Make
from executors.kinds import Kind
from executors.rendezvous import SOON_S, Gate, Mailbox


def workers_of(kind: Kind, executor: Any) -> list[Any]:
    """Something with ``is_alive`` for each worker."""
    return list(executor._processes.values() if kind.has_processes else executor._threads)


def test_shutdown_waits_for_all_tasks(make: Make, mailbox: Mailbox) -> None:
    executor = make(2)
    futures = [executor.submit(tasks.post, mailbox, item) for item in range(30)]
    executor.shutdown()
    assert len(mailbox.take_all()) == 30
    assert all(future.done() for future in futures)


def test_shutdown_ends_the_workers(kind: Kind, make: Make) -> None:
    threads = set(threading.enumerate())
    executor = make(2)
    pids = {executor.submit(os.getpid).result() for _ in range(4)}
    workers = workers_of(kind, executor)
    executor.shutdown()
    assert not any(worker.is_alive() for worker in workers)
    if kind.has_processes:
        assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    else:
        assert set(threading.enumerate()) <= threads


def test_results_outlive_their_executor(make: Make) -> None:
    executor = make(2)
    futures = [executor.submit(tasks.make_bytes, 1 << 20) for _ in range(4)]
    failed = executor.submit(tasks.raise_trouble)
    executor.shutdown()
    assert [len(future.result(0)) for future in futures] == [1 << 20] * 4
    assert type(failed.exception(0)) is tasks.Trouble


def test_executor_takes_nothing_after_shutdown(make: Make) -> None:
    executor = make(1)
    executor.submit(int).result()
    executor.shutdown()
    with pytest.raises(RuntimeError, match=r"^cannot schedule new futures after shutdown$"):
        executor.submit(int)
    with pytest.raises(RuntimeError, match=r"^cannot schedule new futures after shutdown$"):
        executor.map(tasks.double, [1])


def test_shutdown_can_be_repeated(make: Make) -> None:
    executor = make(1)
    executor.submit(int).result()
    for wait in (True, False, True):
        executor.shutdown(wait)
        executor.shutdown(wait=wait, cancel_futures=True)


def test_shutdown_without_a_task(kind: Kind) -> None:
    kind.make(4).shutdown()
    with kind.make(4):
        pass


def test_shutdown_that_does_not_wait(make: Make, mailbox: Mailbox, gate: Gate) -> None:
    executor = make(1)
    first = executor.submit(tasks.post_and_wait, mailbox, gate, "first")
    mailbox.take()
    others = [executor.submit(tasks.double, item) for item in range(40)]
    executor.shutdown(wait=False)
    assert not first.done()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(int)
    gate.open()
    assert first.result(SOON_S) == "first"
    assert [future.result(SOON_S) for future in others] == [item * 2 for item in range(40)]


@pytest.mark.parametrize("wait", [True, False])
def test_shutdown_cancels_what_has_not_begun(
    make: Make, mailbox: Mailbox, gate: Gate, wait: bool
) -> None:
    executor = make(1)
    running = executor.submit(tasks.post_and_wait, mailbox, gate, "done")
    mailbox.take()
    others = [executor.submit(tasks.post, mailbox, item) for item in range(60)]
    last_is_cancelled = threading.Event()
    others[-1].add_done_callback(lambda _: last_is_cancelled.set())

    def open_then() -> None:
        assert last_is_cancelled.wait(SOON_S)
        gate.open()

    opener = threading.Thread(target=open_then)
    opener.start()
    executor.shutdown(wait=wait, cancel_futures=True)
    opener.join()
    assert running.result(SOON_S) == "done"
    ran = [item for item, future in enumerate(others) if not future.cancelled()]
    assert len(ran) < 30
    for item in ran:
        others[item].result(SOON_S)
    assert mailbox.take_all() == list(map(str, ran))


def test_with_waits_for_all_tasks(kind: Kind, mailbox: Mailbox) -> None:
    made = kind.make(2)
    with made as executor:
        assert executor is made
        executor.map(tasks.post, [mailbox] * 10, range(10))
    assert len(mailbox.take_all()) == 10
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(int)


def test_with_lets_exceptions_out(kind: Kind) -> None:
    executor = kind.make(1)
    future = executor.submit(tasks.raise_trouble)
    with pytest.raises(tasks.Trouble), executor:
        future.result()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(int)


def test_shutdown_of_an_executor_whose_task_was_just_cancelled(make: Make) -> None:
    executor = make(1)
    executor.submit(int).result()
    executor.submit(int).cancel()
    executor.shutdown()


def test_shutdown_in_a_callback(make: Make) -> None:
    executor = make(1)
    finished = threading.Event()

    def callback(_: Any) -> None:
        executor.shutdown(wait=False)
        finished.set()

    executor.submit(int).add_done_callback(callback)
    assert finished.wait(SOON_S)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(int)


def test_many_threads_shut_down_at_once(make: Make) -> None:
    executor = make(2)
    futures = [executor.submit(tasks.double, item) for item in range(20)]
    threads = [threading.Thread(target=executor.shutdown) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON_S)
        assert not thread.is_alive()
    assert [future.result(0) for future in futures] == [item * 2 for item in range(20)]


class TestForgotten:
    """Executors that nobody shuts down."""

    def test_executor_is_collected_without_help(self, kind: Kind) -> None:
        executor = kind.make(1)
        assert executor.submit(tasks.double, 21).result() == 42
        executor_reference = weakref.ref(executor)
        workers = workers_of(kind, executor)
        gc.collect()
        gc.disable()
        try:
            del executor
            wait_until(lambda: executor_reference() is None, "the executor is gone")
        finally:
            gc.enable()
        wait_until(lambda: not any(each.is_alive() for each in workers), "the workers have ended")

    def test_its_tasks_are_run(self, kind: Kind, mailbox: Mailbox, gate: Gate) -> None:
        executor = kind.make(1)
        executor.submit(tasks.post_and_wait, mailbox, gate)
        futures = [executor.submit(tasks.post, mailbox, item) for item in range(40)]
        mailbox.take()
        workers = workers_of(kind, executor)
        del executor
        gc.collect()
        gate.open()
        assert mailbox.take(40) == [str(item) for item in range(40)]
        assert [future.result(SOON_S) for future in futures] == [None] * 40
        wait_until(lambda: not any(each.is_alive() for each in workers), "the workers have ended")

    def test_its_tasks_are_run_though_nobody_has_their_futures(
        self, kind: Kind, mailbox: Mailbox
    ) -> None:
        executor = kind.make(1)
        for item in range(40):
            executor.submit(tasks.post, mailbox, item)
        del executor
        gc.collect()
        assert mailbox.take(40) == [str(item) for item in range(40)]

    def test_its_futures_keep_no_executor(self, kind: Kind) -> None:
        executor = kind.make(1)
        future = executor.submit(tasks.double, 21)
        reference = weakref.ref(executor)
        del executor
        gc.collect()
        wait_until(lambda: reference() is None, "the executor is gone")
        assert future.result(SOON_S) == 42
