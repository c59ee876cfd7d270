"""What a row of the tables is, and what its measuring needs again and again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ungil_bench import work
from ungil_bench.peers import Peer

Sizes = dict[str, Any]
Point = float | int | str | None
Unit = Literal["tasks/s", "s", "B", "/s", "1"]


@dataclass(frozen=True)
class Figure:
    """One of the values that a row measures.

    Attributes:
        name: Its key in the JSON.
        title: What it is, with names of sizes in braces.
        unit: ``1`` is a share or a multiple.
        is_rate: More is better.
        is_linear: Its plot has a linear axis.
    """

    name: str
    title: str
    unit: Unit
    is_rate: bool = False
    is_linear: bool = False


@dataclass(frozen=True)
class Axis:
    """What differs between the points of a row, and in which unit; ``""`` for names."""

    title: str
    unit: str = "1"


@dataclass(frozen=True)
class Answer:
    """What one measurement brought.

    Attributes:
        count: How many tasks or round trips it is made of.
        figures: A value for each of the row's figures, or nothing.
        remark: Why there is nothing. The contender is then not asked again.
    """

    count: int
    figures: dict[str, float] = field(default_factory=dict)
    remark: str | None = None


@dataclass(frozen=True)
class Request:
    """What is to be measured: who, in which way, and where on the axis."""

    peer: Peer
    way: str
    sizes: Sizes
    point: Point = None

    @property
    def run(self) -> Callable[[Any, Sequence[Any]], None]:
        """The way itself."""
        way: Callable[[Any, Sequence[Any]], None] = getattr(self.peer, self.way)
        return way


def everybody(peer: Peer) -> bool:
    return True


def processes(peer: Peer) -> bool:
    return peer.kind == "processes"


def only_ours_and_futures(peer: Peer) -> bool:
    return peer.is_future


@dataclass(frozen=True)
class Row:
    """One kind of measurement.

    Attributes:
        name: What ``--rows`` calls it.
        meaning: One or two sentences for the page.
        figures: What it measures.
        measure: Does it once, in the peer's process, with no pool open.
        takes: Which peers take part; ``Peer.only`` is asked besides.
        ways: The peers' attribute that names the ways to measure.
        axis: What differs between its points, if it has several.
        points: Its points, given the sizes.
        process: ``kept`` for all rows and rounds; ``own`` for each sample; ``killed``: an own one
            that is killed when it has answered, for ending would take long; ``start``: an own one
            whose very beginning is measured.
        is_slow: Takes so long that it is not done in every round.
        patience_s: Whoever takes longer for one sample is stuck.
        quota_cpus: The process gets so many CPUs' time at most, given the sizes.
    """

    name: str
    meaning: str
    figures: tuple[Figure, ...]
    measure: Callable[[Request], Answer]
    takes: Callable[[Peer], bool] = everybody
    ways: str = "call_ways"
    axis: Axis | None = None
    points: Callable[[Sizes], Sequence[Point]] = lambda sizes: [None]
    process: Literal["kept", "own", "killed", "start"] = "kept"
    is_slow: bool = False
    patience_s: float = 30.0
    quota_cpus: Callable[[Sizes], float] | None = None

    def allows(self, peer: Peer) -> bool:
        return self.takes(peer) if peer.only is None else self.name in peer.only


@contextlib.contextmanager
def opened(peer: Peer, workers: int) -> Iterator[None]:
    """The peer with a pool."""
    peer.open(workers)
    try:
        yield
    finally:
        peer.close()


def timed(run: Callable[..., object], *arguments: Any) -> float:
    started = time.perf_counter()
    run(*arguments)
    return time.perf_counter() - started


def middle(values: Sequence[float]) -> float:
    """The median."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return (ordered[half] + ordered[-1 - half]) / 2


# So many tasks at least, however slow a peer is: fewer would measure the start of a burst.
COUNT_MIN = 500


def rate(run: Callable[[int], object], count_max: int, seconds: float) -> Answer:
    """Tasks a second; fewer tasks than asked for where they would take too long."""
    count = min(count_max, 50)
    # The first tasks start the workers, and say nothing of those that follow.
    run(count)
    while (elapsed := timed(run, count)) < seconds / 4 and count < count_max:
        count = min(count_max, 4 * count)
    count = min(count_max, max(COUNT_MIN, int(count * seconds / elapsed)))
    return Answer(count, {"rate": count / timed(run, count)})


def spinning(task_s: float) -> int:
    """Loops of ``work.spin`` that take about so many seconds on this machine just now."""
    loops = 1000
    while (elapsed := min(timed(work.spin, loops) for _ in range(3))) < 0.002:
        loops *= 2
    return max(1, round(loops * task_s / elapsed))
