"""The process that one peer is measured in; ``executors.py`` starts it.

    measure.py serve NAME              measures whatever is asked for on standard input
    measure.py start NAME WORKERS      measures the first result of this interpreter, and ends

Each peer has a process to itself, so that nobody's threads, memory or imports are in another's way.
"""

from __future__ import annotations

import sys
import time

import peers
import work

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from peers import Peer

# What is too short to be a measurement of its own is repeated, so often at most.
REPEATS = 5
# So many tasks at least, however slow a peer is: fewer would measure the start of a burst, or have no
# 99th percentile.
COUNT_MIN = 500
TRIPS_MIN = 100
# A pause after which nobody expects the next task at once.
PAUSE_S = 0.005


def many(run: Callable[[int], None], count_max: int, seconds: float) -> dict[str, Any]:
    """Tasks a second; fewer tasks than asked for where they would take too long."""
    count = min(count_max, 50)
    # The first tasks start the workers, and say nothing of those that follow.
    run(count)
    while (elapsed := _timed(run, count)) < seconds / 4 and count < count_max:
        count = min(count_max, 4 * count)
    count = min(count_max, max(COUNT_MIN, int(count * seconds / elapsed)))
    return {"count": count, "figures": {"rate": count / _timed(run, count)}}


def burst(peer: Peer, way: str, sizes: dict[str, Any]) -> dict[str, Any]:
    return many(getattr(peer, way), sizes["burst"], sizes["seconds"])


def map_(peer: Peer, way: str, sizes: dict[str, Any]) -> dict[str, Any]:
    return many(getattr(peer, way), sizes["map"], sizes["seconds"])


def trip(peer: Peer, way: str, sizes: dict[str, Any]) -> dict[str, Any]:
    """Round trips, each begun when the last one has ended."""
    warm = _median(_trips(peer, min(sizes["trips"], 20), 0.0))
    count = min(sizes["trips"], max(TRIPS_MIN, int(sizes["seconds"] / warm)))
    times = sorted(_trips(peer, count, 0.0))
    return {
        "count": count,
        "figures": {"p50": _median(times), "p99": times[-(-99 * count // 100) - 1]},
    }


def pause(peer: Peer, way: str, sizes: dict[str, Any]) -> dict[str, Any]:
    """Round trips with a pause before each, long enough for everybody to be asleep."""
    _trips(peer, 5, 0.0)
    count = min(sizes["trips"], max(5, int(sizes["seconds"] / PAUSE_S)))
    return {"count": count, "figures": {"p50": _median(_trips(peer, count, PAUSE_S))}}


def argument(peer: Peer, way: str, sizes: dict[str, Any]) -> dict[str, Any]:
    import numpy

    array = numpy.ones(sizes["array"], numpy.uint8)
    return _repeated(lambda: peer.call(work.touch, array), work.touch(array), sizes["seconds"])


def result(peer: Peer, way: str, sizes: dict[str, Any]) -> dict[str, Any]:
    expected = peer.call(work.keep, sizes["array"])
    return _repeated(lambda: work.touch(peer.call(work.kept)), expected, sizes["seconds"])


def start(peer: Peer, workers: int) -> dict[str, Any]:
    """How long it takes from nothing to a result, and the second time."""
    times = [time.perf_counter()]
    peer.load()
    times.append(time.perf_counter())
    peer.open(workers)
    peer.call(work.nothing)
    times.append(time.perf_counter())
    peer.close()
    again = time.perf_counter()
    peer.open(workers)
    peer.call(work.nothing)
    second = time.perf_counter() - again
    peer.close()
    figures = {"import": times[1] - times[0], "first": times[2] - times[1], "second": second}
    return {"count": 1, "figures": figures}


MEASURES = {
    "burst": burst,
    "trip": trip,
    "pause": pause,
    "map": map_,
    "argument": argument,
    "result": result,
}


def _timed(run: Callable[[int], None], count: int) -> float:
    started = time.perf_counter()
    run(count)
    return time.perf_counter() - started


def _trips(peer: Peer, count: int, pause_s: float) -> list[float]:
    times = []
    for _ in range(count):
        if pause_s:
            time.sleep(pause_s)
        started = time.perf_counter()
        peer.call(work.nothing)
        times.append(time.perf_counter() - started)
    return times


def _repeated(call: Callable[[], int], expected: int, seconds: float) -> dict[str, Any]:
    if call() != expected:
        raise ValueError("the array arrived changed")
    times: list[float] = []
    while len(times) < REPEATS and sum(times) < seconds:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return {"count": len(times), "figures": {"time": _median(times)}}


def _median(values: list[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return (ordered[middle] + ordered[-1 - middle]) / 2


def serve(peer: Peer) -> None:
    """Answers each request, a line of JSON, with one."""
    import gc
    import json
    import os

    # Whatever a peer or its workers print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    peer.load()
    for line in sys.stdin:
        request = json.loads(line)
        row, sizes = request["row"], request["sizes"]
        # With one worker it is known which one keeps an array.
        peer.open(1 if row in ("argument", "result") else sizes["workers"])
        try:
            gc.collect()
            answer = MEASURES[row](peer, request["way"], sizes)
        finally:
            peer.close()
        print(json.dumps(answer), file=answers)


def main() -> None:
    command, name, *more = sys.argv[1:]
    peer = peers.find(name)
    if command == "serve":
        serve(peer)
    else:
        figures = start(peer, int(more[0]))
        import json

        print(json.dumps(figures))


if __name__ == "__main__":
    main()
