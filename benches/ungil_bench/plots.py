"""What is plotted: plain data, and a sentence that says what can be seen. ``drawing.py`` draws it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ungil_bench.amounts import amount, digits, point_text
from ungil_bench.document import multiple, multiple_text

Shape = Literal["ranking", "panels", "curves", "groups"]
# More curves than that cannot be told apart, and more panels have no room.
CURVES_MAX = 6
PANELS_MAX = 4


@dataclass(frozen=True)
class Mark:
    """A median with its interval, and where on the other axis it is."""

    at: float | str
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Series:
    """The marks of a contender."""

    name: str
    kind: str
    is_ours: bool
    is_executor: bool
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Plot:
    """One picture.

    Attributes:
        file: Its name.
        title: What the values are.
        shape: ``ranking``: a line for each contender; ``panels``: the same for each point, for more
            contenders than can be told apart as ``curves`` over a logarithmic axis; ``groups``: a
            group of lines for each name.
        unit: Of the values.
        is_linear: Whether their axis is, because they are shares, or some are zero.
        is_rate: Whether more is better.
        axis: What the other axis is, and its unit.
        series: In the order of the table.
    """

    file: str
    title: str
    shape: Shape
    unit: str
    is_linear: bool
    is_rate: bool
    axis: str
    axis_unit: str
    series: tuple[Series, ...]

    @property
    def digest(self) -> str:
        """What of the picture came from figures, in short. The picture carries it."""
        text = json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def plot(bench: str, row: dict[str, Any]) -> Plot | None:
    """The picture of a figure; ``None`` if nobody has one."""
    series: dict[str, list[Mark]] = {}
    of: dict[str, dict[str, Any]] = {}
    for line in row["lines"]:
        if (value := line["value"]) is not None:
            at = line["peer"] if row["axis"] is None else line["point"]
            mark = Mark(at, value["median"], value["low"], value["high"])
            series.setdefault(line["peer"], []).append(mark)
            of[line["peer"]] = line
    if not series:
        return None
    marks = [mark for each in series.values() for mark in each]
    axis = row["axis"]
    shape: Shape = "ranking"
    if axis is not None:
        shape = "curves" if axis["unit"] else "groups"
        if len(series) > CURVES_MAX and len({mark.at for mark in marks}) <= PANELS_MAX:
            shape = "panels"
    return Plot(
        file=f"{bench}-{row['row']}-{row['figure']}.svg".replace("_", "-"),
        title=row["title"],
        shape=shape,
        unit=row["unit"],
        is_linear=row["is_linear"] or any(mark.low <= 0 for mark in marks),
        is_rate=row["is_rate"],
        axis=axis["title"] if axis else "",
        axis_unit=axis["unit"] if axis else "",
        series=tuple(
            Series(
                name, of[name]["kind"], of[name]["is_ours"], of[name]["is_executor"], tuple(marks)
            )
            for name, marks in series.items()
        ),
    )


def sentence(row: dict[str, Any]) -> str:
    """What can be seen in the picture, for processes and for threads."""
    clauses = []
    for kind in ("processes", "threads"):
        lines = [line for line in row["lines"] if line["kind"] == kind and line["value"]]
        ours = [line for line in lines if line["is_ours"]]
        others = [line for line in lines if line["is_executor"] and not line["is_ours"]]
        if ours:
            said = (
                _ranking(row, ours, others) if row["axis"] is None else _course(row, ours, others)
            )
            clauses.append(said)
    return " ".join(clauses)


def _ranking(row: dict[str, Any], ours: list[dict[str, Any]], others: list[dict[str, Any]]) -> str:
    """The best of ours, and the best of the others, each in its best way."""
    choose = max if row["is_rate"] else min
    our = choose(ours, key=lambda line: float(line["value"]["median"]))
    said = f"{our['peer']}: {amount(our['value']['median'], row['unit'])}"
    if not others:
        return f"{said}."
    best = choose(others, key=lambda line: float(line["value"]["median"]))
    said += f"; the best other, {best['peer']}: {amount(best['value']['median'], row['unit'])}"
    ratio = multiple(our, best) if row["is_rate"] else multiple(best, our)
    if ratio is None:
        return f"{said}."
    return f"{said}; ungil is {multiple_text(ratio)} as {_comparative(row)}."


def _course(row: dict[str, Any], ours: list[dict[str, Any]], others: list[dict[str, Any]]) -> str:
    unit, axis_unit = row["unit"], row["axis"]["unit"]
    peer = ours[0]["peer"]
    its = [line for line in ours if line["peer"] == peer]
    values = [
        f"{amount(line['value']['median'], unit)} ({point_text(line['point'], axis_unit)})"
        for line in its
    ]
    said = f"{peer}: from {values[0]} to {values[-1]}" if len(its) > 1 else f"{peer}: {values[0]}"
    if not axis_unit:
        order = sorted(its, key=lambda line: float(line["value"]["median"]))
        ends = [order[0], order[-1]]
        both = [f"{amount(line['value']['median'], unit)} ({line['point']})" for line in ends]
        said = f"{peer}: between {both[0]} and {both[1]}"
    ratios = [line for line in others if line["ratio"] is not None]
    if not ratios:
        return f"{said}."
    order = sorted(ratios, key=lambda line: float(line["ratio"]["median"]))
    least, most = (
        f"{digits(line['ratio']['median'])} × "
        f"({line['peer']}, {point_text(line['point'], axis_unit)})"
        for line in (order[0], order[-1])
    )
    between = least if least == most else f"{least} to {most}"
    return f"{said}; ungil is {between} as {_comparative(row)}."


def _comparative(row: dict[str, Any]) -> str:
    return (
        "fast"
        if row["unit"] in ("tasks/s", "s") and row["row"] not in ("idle", "blocked")
        else "good"
    )
