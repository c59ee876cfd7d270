"""What a pool costs that has nothing to do, and a caller that only waits."""

from __future__ import annotations

import os
import threading
import time

from ungil_bench import work
from ungil_bench.readings import Activity, activity, descendants
from ungil_bench.rows.row import Answer, Figure, Request, Row, opened

# Who has just been busy may still be on the way to sleep; for shorter rests, as long as they take.
SETTLING_S = 0.3


def idle(request: Request) -> Answer:
    """An open pool that has run tasks, and now has none."""
    peer, sizes = request.peer, request.sizes
    with opened(peer, sizes["workers"]):
        for _ in range(20):
            peer.call(work.nothing)
        return _answer(_during(sizes["rest_s"]), sizes["rest_s"])


def blocked(request: Request) -> Answer:
    """The main thread waits for the result of a task that sleeps."""
    peer, sizes = request.peer, request.sizes
    found: list[Activity] = []
    measuring = threading.Thread(target=lambda: found.append(_during(sizes["rest_s"])))
    with opened(peer, sizes["workers"]):
        for _ in range(20):
            peer.call(work.nothing)
        measuring.start()
        # Longer than the measuring, so that what ends the waiting is not counted.
        peer.call(work.sleep, sizes["rest_s"] + 2 * _settling_s(sizes["rest_s"]))
        measuring.join()
    return _answer(found[0], sizes["rest_s"])


def _during(seconds: float) -> Activity:
    """What this process and everybody below it do in a while, without the calling thread."""
    time.sleep(_settling_s(seconds))
    own = threading.get_native_id()
    processes = [os.getpid(), *descendants(os.getpid())]
    before = activity(processes, own)
    time.sleep(seconds)
    return activity(processes, own) - before


def _settling_s(seconds: float) -> float:
    return min(SETTLING_S, seconds)


def _answer(done: Activity, seconds: float) -> Answer:
    figures = {"wake_ups": done.switches / seconds, "cpu": done.cpu_s / seconds}
    return Answer(1, figures)


IDLE = Row(
    "idle",
    "An open pool that has run some tasks and has nothing to do, for {rest_s} s: all threads of the "
    "caller's process but the one that measures, and of all processes below it.",
    (
        Figure("wake_ups", "wake-ups of an idle pool, in a second", "/s"),
        Figure("cpu", "CPU time of an idle pool, in a second", "s"),
    ),
    idle,
    is_slow=True,
)
BLOCKED = Row(
    "blocked",
    "The main thread waits {rest_s} s for the result of a task that sleeps.",
    (
        Figure("wake_ups", "wake-ups while a caller waits for a result, in a second", "/s"),
        Figure("cpu", "CPU time while a caller waits for a result, in a second", "s"),
    ),
    blocked,
    is_slow=True,
)
