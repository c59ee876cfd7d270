"""Nothing of the stdlib's machinery is ever started under our executors."""

from __future__ import annotations

import concurrent.futures.process
import concurrent.futures.thread
import multiprocessing.context
import multiprocessing.forkserver
import multiprocessing.pool
import multiprocessing.popen_fork
import multiprocessing.process
import multiprocessing.queues
import multiprocessing.resource_tracker
import os
from collections.abc import Callable
from typing import Any

import pytest

from executors import tasks
from executors.kinds import Kind
from executors.rendezvous import SOON_S, Gate, Mailbox

MACHINERY = [
    (concurrent.futures.thread, "_worker"),
    (concurrent.futures.thread.ThreadPoolExecutor, "_adjust_thread_count"),
    (concurrent.futures.process, "_process_worker"),
    (concurrent.futures.process, "_ThreadWakeup"),
    (concurrent.futures.process._ExecutorManagerThread, "start"),  # type: ignore[attr-defined]
    (concurrent.futures.process.ProcessPoolExecutor, "_adjust_process_count"),
    (concurrent.futures.process.ProcessPoolExecutor, "_spawn_process"),
    (multiprocessing.process.BaseProcess, "start"),
    (multiprocessing.popen_fork.Popen, "_launch"),
    (multiprocessing.queues.Queue, "__init__"),
    (multiprocessing.queues.Queue, "_start_thread"),
    (multiprocessing.queues.SimpleQueue, "__init__"),
    (multiprocessing.forkserver.ForkServer, "ensure_running"),
    (multiprocessing.resource_tracker.ResourceTracker, "ensure_running"),
]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What of the stdlib's machinery was used, by name."""
    seen: list[str] = []
    for owner, name in MACHINERY:
        monkeypatch.setattr(owner, name, noting(seen, name, getattr(owner, name)))
    return seen


def noting(seen: list[str], name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    """Does the same as something else, and notes that it was called."""

    def noted(*args: Any, **kwargs: Any) -> Any:
        seen.append(name)
        return real(*args, **kwargs)

    return noted


def test_machinery_of_the_stdlib_is_never_started(
    kind: Kind, started: list[str], mailbox: Mailbox, gate: Gate
) -> None:
    known = set(concurrent.futures.thread._threads_queues)  # type: ignore[attr-defined]
    wakeups = set(concurrent.futures.process._threads_wakeups)  # type: ignore[attr-defined]
    with kind.make(2, initializer=tasks.set_state, initargs=("set",)) as executor:
        assert executor.submit(tasks.double, 21).result(SOON_S) == 42
        assert list(executor.map(tasks.double, range(5), chunksize=2)) == [0, 2, 4, 6, 8]
        assert isinstance(executor.submit(tasks.raise_trouble).exception(SOON_S), tasks.Trouble)
        futures = [executor.submit(tasks.echo, bytes(1 << 20)) for _ in range(4)]
        concurrent.futures.wait(futures, SOON_S)
        executor.submit(tasks.post_and_wait, mailbox, gate)
        waiting = [executor.submit(int) for _ in range(40)]
        waiting[-1].cancel()
        waiting[0].add_done_callback(lambda _: None)
        if kind.has_processes:
            executor.submit(os._exit, 1).exception(SOON_S)
        gate.open()
        # Whatever has been started is to be seen while the executor lives.
        assert set(concurrent.futures.thread._threads_queues) == known  # type: ignore[attr-defined]
        assert set(concurrent.futures.process._threads_wakeups) == wakeups  # type: ignore[attr-defined]
    tasks.set_state(None)
    assert started == []


def test_machinery_of_the_stdlib_is_told_apart(started: list[str]) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        executor.submit(int).result()
    assert "_worker" in started
