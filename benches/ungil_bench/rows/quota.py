"""A pool that is given less CPU time than there are CPUs, as containers are."""

from __future__ import annotations

from ungil_bench import work
from ungil_bench.readings import usable_cpus
from ungil_bench.rows.row import (
    Answer,
    Figure,
    Request,
    Row,
    opened,
    processes,
    spinning,
    timed,
)
from ungil_bench.rows.trips import round_trips

TASK_S = 0.001


def quota_cpus(sizes: dict[str, object]) -> float:
    return usable_cpus() / 2


def quota(request: Request) -> Answer:
    """Tasks that compute, and round trips. The quota is that of the process it runs in."""
    cpus = usable_cpus()
    loops = spinning(TASK_S)
    items = [loops] * max(8 * cpus, round(request.sizes["work_s"] * cpus / TASK_S))
    with opened(request.peer, cpus):
        request.run(work.spin, [1000] * (8 * cpus))
        elapsed = timed(request.run, work.spin, items)
        ideal = len(items) * TASK_S / quota_cpus(request.sizes)
        trips = round_trips(request.peer, request.sizes["trips"], request.sizes["seconds"])
    return Answer(len(items), {"excess": elapsed / ideal, **trips.figures})


QUOTA = Row(
    "quota",
    "The processes of a peer together may use half of the CPU time that there is, by a control group; "
    "there are as many workers as CPUs.",
    (
        Figure(
            "excess",
            "time of tasks of 1 ms under a CPU quota, as a multiple of the quota's",
            "1",
            is_linear=True,
        ),
        Figure("p50", "round trip under a CPU quota, median", "s"),
        Figure("p99", "round trip under a CPU quota, 99th percentile", "s"),
    ),
    quota,
    takes=processes,
    ways="task_ways",
    process="own",
    is_slow=True,
    patience_s=60.0,
    quota_cpus=quota_cpus,
)
