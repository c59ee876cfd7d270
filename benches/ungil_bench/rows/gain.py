"""The smallest task that gains from two workers."""

from __future__ import annotations

from ungil_bench import work
from ungil_bench.rows.row import (
    Answer,
    Figure,
    Request,
    Row,
    middle,
    opened,
    processes,
    rate,
    spinning,
    timed,
)

WORKERS = 2
# Two durations that differ less are the same.
PRECISION = 1.1
# Whoever does not gain from such tasks is not asked about longer ones.
LONGEST_S = 0.03


def gain(request: Request) -> Answer:
    """Bisects the duration of the tasks, geometrically.

    What a no-op costs in the pool is where the search begins: nobody gains from tasks much shorter
    than that.
    """
    seconds = request.sizes["seconds"] / 4
    with opened(request.peer, WORKERS):
        no_ops = rate(lambda some: request.run(work.nothing, range(some)), 20_000, seconds)
        overhead = 1 / no_ops.figures["rate"]
        loops_per_s = spinning(1.0)

        def gains(loops: int) -> bool:
            length = max(overhead, loops / loops_per_s)
            items = [loops] * max(8, int(seconds / 2 / length))
            pairs = [(timed(_loop, items), timed(request.run, work.spin, items)) for _ in range(3)]
            return middle([serial / pool for serial, pool in pairs]) > 1

        high = max(1, round(overhead * loops_per_s))
        while not gains(high):
            if high > LONGEST_S * loops_per_s:
                return Answer(0, remark=f"does not gain from tasks of {LONGEST_S:g} s")
            high *= 2
        low = high / 2
        while low >= 1 and gains(round(low)):
            high, low = round(low), low / 2
        while high > PRECISION * low and round(low) + 1 < high:
            between = round((low * high) ** 0.5)
            if gains(between):
                high = between
            else:
                low = between
    items = [high] * max(8, int(seconds * loops_per_s / high / 4))
    times = [timed(_loop, items) for _ in range(3)]
    return Answer(len(items), {"task": middle(times) / len(items)})


def _loop(items: list[int]) -> None:
    for item in items:
        work.spin(item)


GAIN = Row(
    "gain",
    "Found by bisection: from which duration of a task on, computing in pure Python, two workers are "
    "faster than the serial loop, when there are many tasks.",
    (Figure("task", "smallest task that gains from 2 workers", "s"),),
    gain,
    takes=processes,
    ways="gaining_ways",
    is_slow=True,
    patience_s=60.0,
)
