"""Work that computes, on every usable CPU: equal tasks, and tasks of very different durations."""

from __future__ import annotations

import random

from ungil_bench import work
from ungil_bench.readings import usable_cpus
from ungil_bench.rows.row import (
    Answer,
    Axis,
    Figure,
    Request,
    Row,
    opened,
    processes,
    spinning,
    timed,
)

# Of the equal tasks.
TASKS_S = (0.001, 0.01, 0.1)
# The logarithm of the tasks' durations has this standard deviation: the longest of 200 is about
# twenty times the median.
SIGMA = 1.0
SKEWED_TASKS_PER_CPU = 100
# Always the same tasks, so that rounds and peers can be compared.
SEED = 20_240_229


def speed_up(request: Request) -> Answer:
    """How many times as fast as the serial loop, divided by the number of workers."""
    task_s = request.point
    assert isinstance(task_s, float)
    cpus = usable_cpus()
    each = max(2, round(request.sizes["work_s"] / task_s))
    loops = spinning(task_s)
    share, items = [loops] * each, [loops] * (each * cpus)
    with opened(request.peer, cpus):
        _warm_up(request, cpus)
        # One worker's share of the work in this process, before and after, for CPUs change speed.
        before = timed(_loop, share)
        elapsed = timed(request.run, work.spin, items)
        after = timed(_loop, share)
    return Answer(len(items), {"share": (before + after) / 2 / elapsed})


def skewed(request: Request) -> Answer:
    """The time, as a multiple of what no schedule can be below."""
    cpus = usable_cpus()
    draw = random.Random(SEED)
    durations = [draw.lognormvariate(0.0, SIGMA) for _ in range(SKEWED_TASKS_PER_CPU * cpus)]
    loops = spinning(request.sizes["work_s"] * cpus)
    items = [max(1, round(loops * each / sum(durations))) for each in durations]
    with opened(request.peer, cpus):
        _warm_up(request, cpus)
        before = timed(_loop, items[::cpus])
        elapsed = timed(request.run, work.spin, items)
        after = timed(_loop, items[::cpus])
    loop_s = (before + after) / 2 / sum(items[::cpus])
    return Answer(len(items), {"excess": elapsed / (loop_s * least_time(items, cpus))})


def least_time(items: list[int], workers: int) -> float:
    """What no schedule is below: an equal share of everything, the longest task, and the two
    shortest of the longest tasks when there is one more of those than workers."""
    ordered = sorted(items, reverse=True)
    pair = ordered[workers - 1] + ordered[workers] if len(ordered) > workers else 0
    return max(sum(items) / workers, ordered[0], pair)


def _warm_up(request: Request, cpus: int) -> None:
    request.run(work.spin, [1000] * (8 * cpus))


def _loop(items: list[int]) -> None:
    for item in items:
        work.spin(item)


SPEED_UP = Row(
    "speed_up",
    "A fixed amount of pure Python in equal tasks, on every usable CPU. 1 would be twice as fast on "
    "two of them, three times on three. Beside it processes without any executor that get their share at once: what "
    "the machine gives.",
    (
        Figure(
            "share",
            "speed-up on {cpus} CPUs, divided by {cpus}",
            "1",
            is_rate=True,
            is_linear=True,
        ),
    ),
    speed_up,
    takes=processes,
    ways="balancing_ways",
    axis=Axis("duration of a task", "s"),
    points=lambda sizes: [each for each in TASKS_S if each < sizes["work_s"]],
    is_slow=True,
    patience_s=120.0,
)
SKEWED = Row(
    "skewed",
    "Tasks whose durations are distributed log-normally, the longest about twenty times the median, "
    "in the same random order for all. 1 is the time that no schedule can be below, which plain "
    "processes nearly reach that know all durations beforehand.",
    (
        Figure(
            "excess",
            "time of skewed tasks, as a multiple of the ideal schedule's",
            "1",
            is_linear=True,
        ),
    ),
    skewed,
    takes=processes,
    ways="balancing_ways",
    is_slow=True,
    patience_s=120.0,
)
