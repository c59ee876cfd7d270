"""The goals of the executors, and whether a document reaches them.

A goal is a multiple of somebody else's figure in the same run, or a limit. It is reached if the median
is; the interval stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ungil_bench.amounts import amount, digits
from ungil_bench.document import multiple, multiple_text

Row = dict[str, Any]
Line = dict[str, Any]

PROCESSES = "ungil.ProcessPoolExecutor"
THREADS = "ungil.ThreadPoolExecutor"


@dataclass(frozen=True)
class Reached:
    """What came of a goal.

    Attributes:
        value: What was reached, with its interval.
        is_reached: Whether that is enough.
        beside: What it was compared with, or what else is worth knowing.
    """

    value: str
    is_reached: bool
    beside: str = ""


@dataclass(frozen=True)
class Goal:
    """One of the goals.

    Attributes:
        work: What is done.
        wanted: What is to be reached, in words.
        reached: Looks it up; ``None`` if it was not measured.
    """

    work: str
    wanted: str
    reached: Callable[[Figures], Reached | None]


class Figures:
    """The lines of a document, by what they are of."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document

    def row(self, name: str, figure: str) -> Row | None:
        rows = self.document["rows"]
        return next((row for row in rows if (row["row"], row["figure"]) == (name, figure)), None)

    def lines(self, name: str, figure: str, point: float | None = None) -> list[Line]:
        """Those that were measured."""
        row = self.row(name, figure)
        lines = row["lines"] if row else []
        return [line for line in lines if line["values"] and line["point"] == point]

    def line(
        self, name: str, figure: str, base: str, way: str | None = None, point: float | None = None
    ) -> Line | None:
        """The first, or the only, way of a peer; its name may be given without what is in brackets."""
        for line in self.lines(name, figure, point):
            if line["base"].partition(" (")[0] == base and way in (None, line["way"]):
                return line
        return None


def _compared(
    row: str,
    figure: str,
    ours: str,
    theirs: str,
    least: float,
    way: str | None = None,
    their_way: str | None = None,
    other_row: str | None = None,
) -> Callable[[Figures], Reached | None]:
    """How many times as good we are as another peer."""

    def reached(figures: Figures) -> Reached | None:
        our = figures.line(row, figure, ours, way)
        their = figures.line(other_row or row, figure, theirs, their_way)
        return _multiple_of(figures, row, figure, our, their, least)

    return reached


def _best(row: str, figure: str, ours: str, least: float) -> Callable[[Figures], Reached | None]:
    """How many times as good we are as the best of the other executors of our kind."""

    def reached(figures: Figures) -> Reached | None:
        our = figures.line(row, figure, ours)
        others = [
            line
            for line in figures.lines(row, figure)
            if our and line["kind"] == our["kind"] and line["is_executor"] and not line["is_ours"]
        ]
        if our is None or not others:
            return None
        found = figures.row(row, figure)
        assert found is not None
        choose = max if found["is_rate"] else min
        their = choose(others, key=lambda line: line["value"]["median"])
        return _multiple_of(figures, row, figure, our, their, least)

    return reached


def _multiple_of(
    figures: Figures, row: str, figure: str, our: Line | None, their: Line | None, least: float
) -> Reached | None:
    found = figures.row(row, figure)
    if our is None or their is None or found is None:
        return None
    ratio = multiple(our, their) if found["is_rate"] else multiple(their, our)
    if ratio is None:
        return None
    beside = f"{their['peer']}: {amount(their['value']['median'], found['unit'])}"
    return Reached(multiple_text(ratio), ratio.median >= least, beside)


def _at_most(
    row: str, figure: str, ours: str, limit: float, way: str | None = None
) -> Callable[[Figures], Reached | None]:
    def reached(figures: Figures) -> Reached | None:
        line, found = figures.line(row, figure, ours, way), figures.row(row, figure)
        if line is None or found is None:
            return None
        return Reached(_value(line, found["unit"]), line["value"]["median"] <= limit)

    return reached


def _value(line: Line, unit: str) -> str:
    value = line["value"]
    low, high = amount(value["low"], unit), amount(value["high"], unit)
    return f"{amount(value['median'], unit)} [{low} – {high}]"


def _copies(row: str) -> Callable[[Figures], Reached | None]:
    """As a multiple of the time of one copy."""

    def reached(figures: Figures) -> Reached | None:
        our = figures.line(row, "time", PROCESSES, "call")
        copy = figures.line(row, "time", "one copy, no executor")
        ratio = multiple(our, copy) if our and copy else None
        if ratio is None or copy is None:
            return None
        beside = f"one copy: {amount(copy['value']['median'], 's')}"
        return Reached(multiple_text(ratio), ratio.median <= 1.3, beside)

    return reached


def _speed_up(figures: Figures) -> Reached | None:
    point = 0.01
    our = figures.line("speed_up", "share", PROCESSES, "submit", point)
    plain = figures.line("speed_up", "share", "plain processes, no executor", None, point)
    if our is None:
        return None
    beside = f"plain processes: {digits(plain['value']['median'])}" if plain else ""
    least = 0.95 if figures.document["machine"]["usable_cpus"] >= 16 else 0.98
    return Reached(_value(our, "1"), our["value"]["median"] >= least, beside)


GOALS: tuple[Goal, ...] = (
    Goal(
        "burst of no-ops, processes",
        "≥ 100 × ProcessPoolExecutor",
        _compared("burst", "rate", PROCESSES, "ProcessPoolExecutor", 100),
    ),
    Goal(
        "burst of no-ops, processes",
        "≥ 20 × the best process peer",
        _best("burst", "rate", PROCESSES, 20),
    ),
    Goal(
        "burst of no-ops, threads",
        "≥ 10 × ThreadPoolExecutor",
        _compared("burst", "rate", THREADS, "ThreadPoolExecutor", 10),
    ),
    Goal(
        "round trip, median, processes",
        "≥ 100 × as fast as ProcessPoolExecutor",
        _compared("trip", "p50", PROCESSES, "ProcessPoolExecutor", 100),
    ),
    Goal(
        "round trip, median, processes",
        "faster than ThreadPoolExecutor's",
        _compared("trip", "p50", PROCESSES, "ThreadPoolExecutor", 1),
    ),
    Goal(
        "round trip beside a busy CPU, median, processes",
        "≥ 40 × as fast as ProcessPoolExecutor",
        _compared("busy", "p50", PROCESSES, "ProcessPoolExecutor", 40),
    ),
    Goal(
        "round trip with everybody asleep, median, processes",
        "≤ 20 µs",
        _at_most("pause", "parked", PROCESSES, 20e-6),
    ),
    Goal(
        "map of no-ops, default chunking",
        "≥ 2 × multiprocessing.Pool",
        _compared("map", "rate", PROCESSES, "multiprocessing.Pool", 2),
    ),
    Goal(
        "map of no-ops, default chunking",
        "not slower than the serial loop",
        _compared("map", "rate", PROCESSES, "a loop, no executor", 1),
    ),
    Goal(
        "map of no-ops, beside joblib's loop",
        "≥ 10 × joblib",
        _compared("map", "rate", PROCESSES, "joblib", 10, their_way="map"),
    ),
    Goal(
        "smallest task that gains from 2 workers",
        "≤ 5 µs",
        _at_most("gain", "task", PROCESSES, 5e-6, "submit"),
    ),
    Goal("large array as argument", "≤ 1.3 × one copy", _copies("argument")),
    Goal("large array as result", "≤ 1.3 × one copy", _copies("result")),
    Goal(
        "large array as argument, made with ungil.empty",
        "≤ 0.5 ms",
        _at_most("argument", "passing", PROCESSES, 0.5e-3, "shared_array"),
    ),
    Goal(
        "large array as result, made with ungil.empty",
        "≤ 0.5 ms",
        _at_most("result", "passing", PROCESSES, 0.5e-3, "shared_array"),
    ),
    Goal(
        "first result of a fresh interpreter, after the import",
        "≤ 25 ms",
        _at_most("start", "first", PROCESSES, 25e-3),
    ),
    Goal(
        "first result of the second pool of a process",
        "≤ 5 ms",
        _at_most("start", "second", PROCESSES, 5e-3),
    ),
    Goal("idle worker's own memory", "≤ 3 MB", _at_most("memory", "own", PROCESSES, 3e6)),
    Goal(
        "speed-up of tasks of 10 ms on N CPUs, divided by N",
        "≥ 0.98, from 16 CPUs on ≥ 0.95",
        _speed_up,
    ),
    Goal(
        "wake-ups of an idle pool of processes", "none", _at_most("idle", "wake_ups", PROCESSES, 0)
    ),
    Goal("wake-ups of an idle pool of threads", "none", _at_most("idle", "wake_ups", THREADS, 0)),
    Goal(
        "wake-ups while a caller waits for a process",
        "none",
        _at_most("blocked", "wake_ups", PROCESSES, 0),
    ),
    Goal(
        "wake-ups while a caller waits for a thread",
        "none",
        _at_most("blocked", "wake_ups", THREADS, 0),
    ),
)
