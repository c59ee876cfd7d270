"""Workers: how many, what they are called, how they begin, and when they are replaced."""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import concurrent.futures.thread
import logging
import multiprocessing
import os
import signal
import threading
from concurrent.futures import CancelledError

import pytest
from leftovers import wait_until

from executors import tasks
from executors.conftest import Make, only_processes, only_threads
from executors.kinds import PROCESSES, Kind
from executors.rendezvous import SOON_S, Gate, Mailbox

BrokenProcessPool = concurrent.futures.process.BrokenProcessPool
BrokenThreadPool = concurrent.futures.thread.BrokenThreadPool

not_fork = pytest.mark.kinds(*[kind for kind in PROCESSES if not kind.is_fork])


def broken(kind: Kind) -> type[Exception]:
    """What an executor raises that is broken."""
    return BrokenProcessPool if kind.has_processes else BrokenThreadPool


def is_alive(pid: int) -> bool:
    """Whether there is such a process; one that ended and was not waited for counts."""
    return os.path.exists(f"/proc/{pid}")


@pytest.mark.parametrize("max_workers", [0, -1])
def test_there_is_at_least_one_worker(kind: Kind, max_workers: int) -> None:
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        kind.make(max_workers)


def test_default_number_of_workers(kind: Kind, make: Make) -> None:
    usable = len(os.sched_getaffinity(0))
    executor = make(None)
    if kind.has_processes:
        # A container may have less than the machine.
        assert 1 <= executor._max_workers <= usable
    else:
        assert 1 < executor._max_workers <= min(32, (os.cpu_count() or 1) + 4)


def test_number_of_workers_can_be_read(make: Make) -> None:
    assert make(3)._max_workers == 3


def test_no_worker_starts_before_the_first_task(kind: Kind, make: Make) -> None:
    threads = threading.active_count()
    executor = make(2)
    assert len(executor._processes if kind.has_processes else executor._threads) == 0
    assert threading.active_count() == threads


def test_idle_worker_is_used_again(kind: Kind, make: Make) -> None:
    if kind.is_fork:
        pytest.skip("a fork starts all its workers at once")
    executor = make(4)
    assert len({executor.submit(tasks.where).result() for _ in range(4)}) == 1
    assert len(executor._processes if kind.has_processes else executor._threads) == 1


def test_workers_start_as_tasks_come(kind: Kind, make: Make, mailbox: Mailbox, gate: Gate) -> None:
    executor = make(3)
    for count in (1, 2, 3, 3):
        executor.submit(tasks.post_and_wait, mailbox, gate)
        workers = executor._processes if kind.has_processes else executor._threads
        assert len(workers) == (3 if kind.is_fork else count)


# What libraries reach for


@only_threads
def test_threads_are_real_threads(make: Make, mailbox: Mailbox, gate: Gate) -> None:
    executor = make(2)
    futures = [executor.submit(tasks.post_and_wait, mailbox, gate) for _ in range(2)]
    mailbox.take(2)
    threads = executor._threads
    assert isinstance(threads, set)
    assert len(threads) == 2
    assert all(type(thread) is threading.Thread or thread.is_alive() for thread in threads)
    assert threads <= set(threading.enumerate())
    assert not any(thread.daemon for thread in threads)
    gate.open()
    concurrent.futures.wait(futures)
    executor.shutdown()
    for thread in threads:
        thread.join(SOON_S)
        assert not thread.is_alive()


@only_processes
def test_processes_can_be_found_and_asked(make: Make, mailbox: Mailbox, gate: Gate) -> None:
    executor = make(2)
    futures = [executor.submit(tasks.post_and_wait, mailbox, gate) for _ in range(2)]
    pids = {int(line) for line in mailbox.take(2)}
    processes = executor._processes
    assert set(processes) == pids
    for pid, process in processes.items():
        assert process.pid == pid
        assert process.is_alive()
    listed = list(processes.values())
    gate.open()
    concurrent.futures.wait(futures)
    executor.shutdown()
    for process in listed:
        process.join(SOON_S)
        assert not process.is_alive()
    assert not any(is_alive(pid) for pid in pids)


@only_threads
def test_threads_are_named_after_the_prefix(make: Make) -> None:
    executor = make(1, thread_name_prefix="SpecialPool")
    assert executor.submit(tasks.thread_name).result() == "SpecialPool_0"
    assert [thread.name for thread in executor._threads] == ["SpecialPool_0"]


@only_threads
def test_threads_have_a_name_of_their_own(make: Make) -> None:
    names = [make(1).submit(tasks.thread_name).result() for _ in range(2)]
    for name in names:
        prefix, _, number = name.partition("-")
        assert prefix == "ThreadPoolExecutor"
        assert number.endswith("_0")
    assert names[0] != names[1]


@only_threads
def test_arguments_have_the_order_of_the_stdlib_for_threads(kind: Kind) -> None:
    with kind.class_(1, "Prefix", tasks.set_state, ("set",)) as executor:
        assert executor.submit(tasks.thread_name).result() == "Prefix_0"
        assert executor.submit(tasks.read_state).result() == "set"
    tasks.set_state(None)


@only_processes
def test_arguments_have_the_order_of_the_stdlib_for_processes(kind: Kind) -> None:
    context = kind.options().get("mp_context")
    with kind.class_(1, context, tasks.set_state, ("set",)) as executor:
        assert executor.submit(tasks.read_state).result() == "set"


@only_processes
@pytest.mark.parametrize("method", ["forkserver", "fork", "spawn"])
def test_every_context_is_accepted(kind: Kind, method: str) -> None:
    if kind.method is not None:
        pytest.skip("once is enough")
    context = multiprocessing.get_context(method)
    with kind.class_(1, mp_context=context) as executor:
        assert executor._mp_context.get_start_method() == method
        assert executor.submit(os.getpid).result() != os.getpid()


# Initializers


def test_initializer_runs_once_in_each_worker(make: Make, mailbox: Mailbox, gate: Gate) -> None:
    executor = make(2, initializer=tasks.set_state_and_post, initargs=(mailbox, "set"))
    began = [executor.submit(gate.wait) for _ in range(2)]
    workers = mailbox.take(2)
    assert len(set(workers)) == 2
    gate.open()
    concurrent.futures.wait(began, SOON_S)
    states = [executor.submit(tasks.read_state) for _ in range(10)]
    assert {state.result() for state in states} == {"set"}
    assert mailbox.take_all() == []
    tasks.set_state(None)


def test_initializer_must_be_callable(kind: Kind) -> None:
    with pytest.raises(TypeError, match="initializer must be a callable"):
        kind.make(1, initializer=42)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_initializer_that_fails_breaks_the_executor(
    kind: Kind, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    executor = make(2, initializer=tasks.fail_to_initialize)
    futures = []
    try:
        for _ in range(5):
            futures.append(executor.submit(tasks.double, 21))
    except broken(kind):
        pass
    assert futures
    for future in futures:
        with pytest.raises(broken(kind)):
            future.result(SOON_S)
    wait_until(lambda: bool(executor._broken), "the executor is broken")
    with pytest.raises(broken(kind)) as caught:
        executor.submit(tasks.double, 21)
    assert isinstance(caught.value, concurrent.futures.BrokenExecutor)
    executor.shutdown()
    if not kind.has_processes:
        records = [each for each in caplog.records if each.name == "concurrent.futures"]
        assert {record.getMessage() for record in records} == {"Exception in initializer:"}
        assert {record.levelno for record in records} == {logging.CRITICAL}
        assert all("the initializer's" in (record.exc_text or "") for record in records)


@only_processes
@pytest.mark.parametrize("name", ["Lock", "Semaphore", "Event", "Queue"])
def test_initializer_is_given_what_multiprocessing_shares(
    kind: Kind, make: Make, name: str
) -> None:
    # The documented way to hand such things to workers, for they refuse to be arguments of a task.
    context = multiprocessing.get_context(kind.method or "spawn")
    shared = getattr(context, name)()
    executor = make(1, initializer=tasks.set_state, initargs=(shared,))
    assert executor.submit(tasks.use_shared, name).result(SOON_S) == name
    if name == "Event":
        assert shared.is_set()
    elif name == "Queue":
        assert shared.get(timeout=SOON_S) == name
        shared.close()
        shared.join_thread()


# Replacing workers


@not_fork
def test_worker_is_replaced_after_so_many_tasks(make: Make) -> None:
    executor = make(1, max_tasks_per_child=2)
    pids = []
    for _ in range(5):
        pids.append(executor.submit(os.getpid).result(SOON_S))
        if len(pids) % 2:
            assert list(executor._processes) == [pids[-1]]
    assert pids[0] == pids[1]
    assert pids[2] == pids[3]
    assert len(set(pids)) == 3
    executor.shutdown()
    assert not any(is_alive(pid) for pid in pids)


@not_fork
def test_workers_are_replaced_under_a_backlog(make: Make) -> None:
    executor = make(2, max_tasks_per_child=2)
    futures = [executor.submit(os.getpid) for _ in range(8)]
    pids = [future.result(SOON_S) for future in futures]
    assert all(pids.count(pid) <= 2 for pid in pids)


@not_fork
def test_workers_are_replaced_after_shutdown_has_begun(make: Make) -> None:
    executor = make(2, max_tasks_per_child=1)
    futures = [executor.submit(tasks.double, item) for item in range(4)]
    executor.shutdown()
    assert [future.result(0) for future in futures] == [0, 2, 4, 6]


@only_processes
def test_tasks_per_child_are_checked(kind: Kind) -> None:
    with pytest.raises(TypeError, match="max_tasks_per_child must be an integer"):
        kind.make(1, max_tasks_per_child=1.5)
    for number in (0, -1):
        with pytest.raises(ValueError, match="max_tasks_per_child must be >= 1"):
            kind.make(1, max_tasks_per_child=number)
    if kind.is_fork:
        with pytest.raises(ValueError, match="max_tasks_per_child is incompatible with"):
            kind.make(1, max_tasks_per_child=1)


# Ending workers


@only_processes
@pytest.mark.parametrize("operation", ["terminate_workers", "kill_workers"])
class TestForce:
    """``terminate_workers`` and ``kill_workers``, on every version of Python."""

    def test_running_tasks_fail_and_others_are_cancelled(
        self, make: Make, mailbox: Mailbox, gate: Gate, operation: str
    ) -> None:
        executor = make(1)
        running = executor.submit(tasks.post_and_wait, mailbox, gate)
        waiting = [executor.submit(int) for _ in range(40)]
        (pid,) = map(int, mailbox.take())
        getattr(executor, operation)()
        with pytest.raises(BrokenProcessPool):
            running.result(SOON_S)
        assert waiting[-1].cancelled()
        for future in waiting:
            with pytest.raises((CancelledError, BrokenProcessPool)):
                future.result(SOON_S)
        with pytest.raises(RuntimeError):
            executor.submit(int)
        executor.shutdown()
        wait_until(lambda: not is_alive(pid), "the worker is gone")

    def test_workers_that_have_not_started(self, make: Make, operation: str) -> None:
        executor = make(1)
        getattr(executor, operation)()
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            executor.submit(int)

    def test_workers_that_have_ended(self, make: Make, operation: str) -> None:
        executor = make(1)
        assert executor.submit(tasks.double, 21).result() == 42
        executor.shutdown()
        getattr(executor, operation)()

    def test_results_that_are_there_are_kept(self, make: Make, operation: str) -> None:
        executor = make(1)
        future = executor.submit(tasks.make_bytes, 1 << 20)
        concurrent.futures.wait([future], SOON_S)
        getattr(executor, operation)()
        assert len(future.result()) == 1 << 20


@only_processes
def test_terminate_sends_a_signal_that_can_be_handled(
    make: Make, mailbox: Mailbox, gate: Gate
) -> None:
    executor = make(1)
    executor.submit(tasks.post_signal_and_wait, signal.SIGTERM, mailbox, gate)
    assert mailbox.take() == ["began"]
    executor.terminate_workers()
    assert mailbox.take() == ["SIGTERM"]


# Threads of a process


@only_processes
class TestThreadsPerWorker:
    """``threads_per_worker``: several tasks of one process at once."""

    def test_so_many_tasks_run_at_once(self, make: Make) -> None:
        executor = make(1, threads_per_worker=4)
        futures = [executor.submit(tasks.meet_three_others) for _ in range(4)]
        wheres = [future.result(SOON_S) for future in futures]
        assert len({pid for pid, _ in wheres}) == 1
        assert len({thread for _, thread in wheres}) == 4
        assert wheres[0][0] != os.getpid()

    def test_results_and_exceptions_find_their_way(self, make: Make) -> None:
        executor = make(2, threads_per_worker=2)
        futures = [executor.submit(tasks.fails_at, item, 50) for item in range(200)]
        for item, future in enumerate(futures):
            if item == 50:
                assert future.exception().args == ("at", 50)
            else:
                assert future.result() == item

    def test_initializer_is_run(self, make: Make) -> None:
        executor = make(1, threads_per_worker=2, initializer=tasks.set_state, initargs=("set",))
        futures = [executor.submit(tasks.read_state) for _ in range(8)]
        assert {future.result(SOON_S) for future in futures} == {"set"}

    @pytest.mark.parametrize("number", [0, -1])
    def test_there_is_at_least_one(self, kind: Kind, number: int) -> None:
        with pytest.raises(ValueError, match="threads_per_worker"):
            kind.make(1, threads_per_worker=number)
