"""A large array as argument, and as result."""

from __future__ import annotations

import time
from collections.abc import Callable

from ungil_bench import work
from ungil_bench.rows.row import Answer, Figure, Request, Row, middle, opened, processes

# What is too short to be a measurement of its own is repeated, so often at most.
REPEATS = 5


def argument(request: Request) -> Answer:
    make = work.shared_array if request.way == "shared_array" else work.array
    array = make(request.sizes["array"])
    with opened(request.peer, 1):
        return _passed(lambda: request.peer.call(work.touch, array), request)


def result(request: Request) -> Answer:
    make = work.shared_array if request.way == "shared_array" else work.array
    size = request.sizes["array"]
    # With one worker it is known which one has made the array. Some need two, and so a warm-up more.
    with opened(request.peer, 1):
        request.peer.call(make, size)
        return _passed(lambda: work.touch(request.peer.call(make, size)), request)


def _passed(call: Callable[[], tuple[int, float]], request: Request) -> Answer:
    """Times with and without the reading, wherever it happened."""
    expected, _ = work.touch(work.array(request.sizes["array"]))
    seconds = request.sizes["seconds"]
    times: list[float] = []
    passing: list[float] = []
    _checked(call, expected)
    while len(times) < REPEATS and sum(times) < seconds:
        started = time.perf_counter()
        reading = _checked(call, expected)
        times.append(time.perf_counter() - started)
        passing.append(times[-1] - reading)
    return Answer(len(times), {"time": middle(times), "passing": middle(passing)})


def _checked(call: Callable[[], tuple[int, float]], expected: int) -> float:
    total, reading = call()
    if total != expected:
        raise ValueError("the array arrived changed")
    return reading


ARGUMENT = Row(
    "argument",
    "The worker reads a byte of every page; the second figure is the time without this reading. "
    "Beside it one copy into memory that is there already.",
    (
        Figure("time", "array of {array_mib} MiB as argument, and reading it", "s"),
        Figure("passing", "array of {array_mib} MiB as argument", "s"),
    ),
    argument,
    takes=processes,
    ways="array_ways",
)
RESULT = Row(
    "result",
    "The worker has made the array before; the caller reads a byte of every page.",
    (
        Figure("time", "array of {array_mib} MiB as result, and reading it", "s"),
        Figure("passing", "array of {array_mib} MiB as result", "s"),
    ),
    result,
    takes=processes,
    ways="array_ways",
)
