"""How cost grows: with workers, tasks, payload, submitting threads, kinds of arguments, and by the
way in which results are collected."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from ungil_bench import arguments, work
from ungil_bench.readings import resident_bytes
from ungil_bench.rows.row import (
    Answer,
    Axis,
    Figure,
    Point,
    Request,
    Row,
    Sizes,
    middle,
    only_ours_and_futures,
    opened,
    processes,
    rate,
    timed,
)

# More than any benchmark takes: its process is killed long before.
FOREVER_S = 86_400.0


def workers(request: Request) -> Answer:
    count = request.point
    assert isinstance(count, int)
    seconds = request.sizes["seconds"]
    started = time.perf_counter()
    with opened(request.peer, count):
        # One sleeping task for each worker, or a pool that starts workers as needed would not.
        sleeping = [request.peer.begin(work.sleep, 0.01) for _ in range(count)]
        for each in sleeping:
            each.result()
        first = time.perf_counter() - started
        burst = rate(
            lambda some: request.run(work.nothing, range(some)), request.sizes["burst"], seconds
        )
    return Answer(burst.count, {"start": first, **burst.figures})


def tasks(request: Request) -> Answer:
    count = request.point
    assert isinstance(count, int)
    with opened(request.peer, request.sizes["workers"]):
        request.run(work.nothing, range(100))
        if remark := _too_long(lambda some: request.run(work.nothing, range(some)), request):
            return Answer(0, remark=remark)
        return Answer(count, {"rate": count / timed(request.run, work.nothing, range(count))})


def pending(request: Request) -> Answer:
    """Tasks that are begun while all workers are busy. The process is killed afterwards."""
    count = request.point
    assert isinstance(count, int)
    peer = request.peer
    peer.open(request.sizes["workers"])
    for _ in range(100):
        peer.call(work.nothing)
    for _ in range(request.sizes["workers"]):
        peer.begin(work.sleep, FOREVER_S)
    kept = []
    if remark := _too_long(
        lambda some: kept.extend(peer.begin(work.nothing, item) for item in range(some)),
        request,
    ):
        return Answer(0, remark=remark)
    kept.clear()
    before = resident_bytes()
    started = time.perf_counter()
    kept.extend(peer.begin(work.nothing, item) for item in range(count))
    elapsed = time.perf_counter() - started
    return Answer(count, {"memory": (resident_bytes() - before) / count, "submit": elapsed / count})


def payload(request: Request) -> Answer:
    size = request.point
    assert isinstance(size, int)
    call = request.peer.call
    sent = work.payload(size)
    with opened(request.peer, 1):
        if call(work.length, sent) != size or len(call(work.payload, size)) != size:
            raise ValueError("the payload arrived changed")
        there = _repeated(lambda: call(work.length, sent), request.sizes["seconds"])
        back = _repeated(lambda: call(work.payload, size), request.sizes["seconds"])
    return Answer(1, {"argument": there, "result": back})


def submitters(request: Request) -> Answer:
    """Threads that each submit their share and take its results."""
    count = request.point
    assert isinstance(count, int)

    def run(some: int) -> None:
        share = range(max(1, some // count))
        threads = [
            threading.Thread(target=request.run, args=(work.nothing, share)) for _ in range(count)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    with opened(request.peer, request.sizes["workers"]):
        return rate(run, request.sizes["burst"], request.sizes["seconds"])


def kinds(request: Request) -> Answer:
    kind = request.point
    assert isinstance(kind, str)
    function, argument = arguments.KINDS[kind]()
    with opened(request.peer, request.sizes["workers"]):
        try:
            request.peer.call(function, argument)
        except Exception as error:
            return Answer(0, remark=f"cannot be sent: {error}"[:120])
        count, seconds = request.sizes["burst"], request.sizes["seconds"]
        return rate(lambda some: request.run(function, [argument] * some), count, seconds)


def collecting(request: Request) -> Answer:
    way = COLLECTING[str(request.point)]
    with opened(request.peer, request.sizes["workers"]):
        count, seconds = request.sizes["burst"], request.sizes["seconds"]
        return rate(lambda some: way(request.peer.pool, some), count, seconds)


def _begun(pool: Any, count: int) -> list[Any]:
    return [pool.submit(work.nothing, item) for item in range(count)]


def _results(pool: Any, count: int) -> None:
    for future in _begun(pool, count):
        future.result()


def _as_completed(pool: Any, count: int) -> None:
    for future in concurrent.futures.as_completed(_begun(pool, count)):
        future.result()


def _wait(pool: Any, count: int) -> None:
    concurrent.futures.wait(_begun(pool, count))


def _gather(pool: Any, count: int) -> None:
    async def main() -> None:
        run = asyncio.get_running_loop().run_in_executor
        await asyncio.gather(*(run(pool, work.nothing, item) for item in range(count)))

    asyncio.run(main())


def _callbacks(pool: Any, count: int) -> None:
    lock = threading.Lock()
    everything = threading.Event()
    left = count

    def called(future: Any) -> None:
        nonlocal left
        with lock:
            left -= 1
            if not left:
                everything.set()

    for item in range(count):
        pool.submit(work.nothing, item).add_done_callback(called)
    everything.wait()


COLLECTING: dict[str, Callable[[Any, int], None]] = {
    "result() of each": _results,
    "as_completed": _as_completed,
    "wait": _wait,
    "asyncio.gather": _gather,
    "callbacks": _callbacks,
}


def _too_long(run: Callable[[int], object], request: Request) -> str | None:
    """Why so many tasks are not tried, if they would take longer than anybody waits."""
    some = 1000
    quickest = min(timed(run, some) for _ in range(3))
    predicted = quickest * float(request.point or 0) / some
    limit = request.sizes["limit_s"]
    return f"left out: would take about {predicted:.0f} s" if predicted > limit else None


def _repeated(call: Callable[[], object], seconds: float) -> float:
    """The median of some calls; one may be all that there is time for."""
    times: list[float] = []
    while not times or (len(times) < 1000 and sum(times) < seconds / 4):
        times.append(timed(call))
    return middle(times)


def _up_to(largest: int, factor: int, first: int = 1) -> list[int]:
    points = [first]
    while points[-1] * factor <= largest:
        points.append(points[-1] * factor)
    return points


def task_points(sizes: Sizes) -> Sequence[Point]:
    return _up_to(sizes["tasks_max"], 10, 1000 if sizes["tasks_max"] >= 1000 else 100)


def payload_points(sizes: Sizes) -> Sequence[Point]:
    largest = sizes["payload_max"]
    points = sorted({*_up_to(largest, 16), largest})
    # More than a 32-bit length, signed or not, can say; not a power of two either.
    return [*points, (2 << 30) + 4096] if sizes["is_huge"] else points


WORKERS = Row(
    "workers",
    "A pool with so many workers: how long until each has run a task of 10 ms, and the rate of a burst.",
    (
        Figure("start", "until all workers have run a task of 10 ms", "s"),
        Figure("rate", "burst of {burst} no-ops", "tasks/s", is_rate=True),
    ),
    workers,
    takes=only_ours_and_futures,
    ways="burst_ways",
    axis=Axis("workers"),
    points=lambda sizes: _up_to(sizes["workers_max"], 2),
)
TASKS = Row(
    "tasks",
    "Bursts of so many tasks.",
    (Figure("rate", "burst of no-ops, by their number", "tasks/s", is_rate=True),),
    tasks,
    takes=only_ours_and_futures,
    ways="burst_ways",
    axis=Axis("tasks"),
    points=task_points,
    patience_s=120.0,
)
PENDING = Row(
    "pending",
    "Tasks submitted while all workers are busy: by how much the caller's resident memory grows.",
    (
        Figure("memory", "memory of a pending task", "B"),
        Figure("submit", "time to submit a task", "s"),
    ),
    pending,
    takes=only_ours_and_futures,
    axis=Axis("tasks"),
    points=task_points,
    process="killed",
    patience_s=120.0,
)
PAYLOAD = Row(
    "payload",
    "``bytes`` of so many bytes, sent to a worker, and returned by one that has them already.",
    (
        Figure("argument", "round trip with bytes as argument", "s"),
        Figure("result", "round trip with bytes as result", "s"),
    ),
    payload,
    takes=processes,
    axis=Axis("size", "B"),
    points=payload_points,
    patience_s=120.0,
)
SUBMITTERS = Row(
    "submitters",
    "Threads of one process that submit to one pool at the same time, each its share.",
    (Figure("rate", "burst of no-ops, by the number of submitting threads", "tasks/s", True),),
    submitters,
    takes=only_ours_and_futures,
    ways="burst_ways",
    axis=Axis("submitting threads"),
    points=lambda sizes: _up_to(sizes["submitters_max"], 2),
)
KINDS = Row(
    "kinds",
    "A burst of tasks with one argument of this kind, or of a function of this kind.",
    (Figure("rate", "burst of tasks, by their argument", "tasks/s", is_rate=True),),
    kinds,
    takes=lambda peer: peer.is_future and processes(peer),
    ways="burst_ways",
    axis=Axis("argument", ""),
    points=lambda sizes: list(arguments.KINDS),
)
COLLECTED = Row(
    "collecting",
    "A burst of no-ops whose results are taken in this way.",
    (Figure("rate", "burst of no-ops, by how results are collected", "tasks/s", True),),
    collecting,
    takes=lambda peer: peer.is_future and "submit" in peer.burst_ways,
    axis=Axis("collected by", ""),
    points=lambda sizes: list(COLLECTING),
)
