"""Round trips: one call and its result, each begun when the last one has ended."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator

from ungil_bench import work
from ungil_bench.peers import Peer
from ungil_bench.rows.row import Answer, Figure, Request, Row, middle, opened

# Fewer have no 99th percentile.
TRIPS_MIN = 100
# A pause after which everybody has gone to sleep: nobody spins for longer than a tenth of it.
PARKED_S = 0.0002
# One after which the machine has forgotten, too: its caches are cold, and its CPUs asleep.
COLD_S = 0.005


def trip(request: Request) -> Answer:
    peer, sizes = request.peer, request.sizes
    with opened(peer, sizes["workers"]):
        return round_trips(peer, sizes["trips"], sizes["seconds"])


def busy(request: Request) -> Answer:
    peer, sizes = request.peer, request.sizes
    with opened(peer, sizes["workers"]):
        peer.call(work.nothing)
        with _neighbour():
            return round_trips(peer, sizes["trips"], sizes["seconds"])


def pause(request: Request) -> Answer:
    peer, sizes = request.peer, request.sizes
    with opened(peer, sizes["workers"]):
        _trips(peer, 5, 0.0)
        count = min(sizes["trips"], max(20, int(sizes["seconds"] / 2 / COLD_S)))
        parked = middle(_trips(peer, sizes["trips"], PARKED_S))
        return Answer(count, {"parked": parked, "cold": middle(_trips(peer, count, COLD_S))})


def round_trips(peer: Peer, count_max: int, seconds: float) -> Answer:
    """The median and the 99th percentile of as many round trips as the time has room for."""
    warm = middle(_trips(peer, min(count_max, 20), 0.0))
    count = min(count_max, max(TRIPS_MIN, int(seconds / warm)))
    times = sorted(_trips(peer, count, 0.0))
    return Answer(count, {"p50": middle(times), "p99": times[-(-99 * count // 100) - 1]})


def _trips(peer: Peer, count: int, pause_s: float) -> list[float]:
    times = []
    for _ in range(count):
        if pause_s:
            time.sleep(pause_s)
        started = time.perf_counter()
        peer.call(work.nothing)
        times.append(time.perf_counter() - started)
    return times


@contextlib.contextmanager
def _neighbour() -> Iterator[None]:
    """A process that keeps one CPU busy, whichever the kernel gives it."""
    source = "print(flush=True)\nwhile True: pass"
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", source], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


TRIP = Row(
    "trip",
    "One call, its result, the next call.",
    (
        Figure("p50", "round trip of one no-op, median", "s"),
        Figure("p99", "round trip of one no-op, 99th percentile", "s"),
    ),
    trip,
)
BUSY = Row(
    "busy",
    "The same while a process of the benchmark, pinned to no CPU, only spins: who spins too to be "
    "quick pays for it here.",
    (
        Figure("p50", "round trip beside a process that spins, median", "s"),
        Figure("p99", "round trip beside a process that spins, 99th percentile", "s"),
    ),
    busy,
)
PAUSE = Row(
    "pause",
    "The same with a pause before each call: one in which everybody goes to sleep, and one after "
    "which the caches are cold too.",
    (
        Figure("parked", "round trip after 0.2 ms of rest, median", "s"),
        Figure("cold", "round trip after 5 ms of rest, median", "s"),
    ),
    pause,
)
