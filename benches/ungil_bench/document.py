"""The figures as plain data: what ``--json`` writes, and everything else is made from."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ungil_bench.amounts import count_text, digits
from ungil_bench.bench import Samples
from ungil_bench.rounds import DISTURBED, Median, median
from ungil_bench.rows.row import Figure, Row, Sizes

# Raised when a reader of the JSON would have to be changed.
FORMAT = 2


@dataclass
class Line:
    """What a table says of a contender and a figure.

    Attributes:
        peer: Its name, with the way if it has several.
        base: The peer's own name.
        way: The way.
        point: Where on the row's axis.
        kind: ``processes`` or ``threads``.
        is_ours: Whether it is ungil's.
        is_executor: Whether it is one at all, and not what is done without any.
        count: Tasks of a sample, the fewest.
        value: The median of the rounds.
        ratio: How many times as good ungil is, from ratios within rounds.
        disturbed: The rounds in which the machine had other work.
        failure: Why there are no more samples.
        remark: Why there are none by intention.
        rounds: In which it was measured; the following have a place for each.
        values: The values.
        calibration_s: The times of the fixed loop, before and after.
    """

    peer: str
    base: str
    way: str
    point: float | int | str | None
    kind: str
    is_ours: bool
    is_executor: bool
    count: int
    value: Median | None
    ratio: Median | None
    disturbed: list[int]
    failure: str | None
    remark: str | None
    rounds: list[int]
    values: list[float]
    calibration_s: list[tuple[float, float]]


def rows(everybody: Sequence[Samples], sizes: Sizes, limit_s: float) -> list[dict[str, Any]]:
    """Every figure of every row that was measured."""
    found = []
    for row in dict.fromkeys(each.contender.row for each in everybody):
        these = [each for each in everybody if each.contender.row is row]
        for figure in row.figures:
            found.append(
                {
                    "row": row.name,
                    "figure": figure.name,
                    "title": figure.title.format(**_texts(sizes)),
                    "meaning": row.meaning.format(**_texts(sizes)),
                    "unit": figure.unit,
                    "is_rate": figure.is_rate,
                    "is_linear": figure.is_linear,
                    "axis": asdict(row.axis) if row.axis else None,
                    "lines": [asdict(_line(each, figure, these, limit_s)) for each in these],
                }
            )
    return found


def calibration(everybody: Sequence[Samples]) -> dict[str, Any]:
    """How often the machine was disturbed, by the time that a fixed loop took."""
    taken = [sample for each in everybody for sample in each.samples]
    times = [value for sample in taken for value in sample.calibration_s]
    fastest = min(times, default=0.0)
    return {
        "fastest_s": fastest,
        "median_s": median(times).median if times else 0.0,
        "samples": len(taken),
        "disturbed": sum(
            _is_disturbed(sample.calibration_s, DISTURBED * fastest) for sample in taken
        ),
        "limit": DISTURBED,
    }


def _texts(sizes: Sizes) -> dict[str, str]:
    return {
        name: count_text(value) if isinstance(value, int) else f"{value:g}"
        for name, value in sizes.items()
        if isinstance(value, (int, float))
    }


def _is_disturbed(times: Sequence[float], limit_s: float) -> bool:
    return max(times) > limit_s


def _line(samples: Samples, figure: Figure, these: Sequence[Samples], limit_s: float) -> Line:
    contender = samples.contender
    peer = contender.peer
    values = _by_round(samples, figure)
    own = _by_round(_ours(contender.row, samples, these), figure)
    ratios = []
    if not peer.is_ours:
        for number, value in values.items():
            above, below = (own.get(number), value) if figure.is_rate else (value, own.get(number))
            # Of nothing, something is no multiple.
            if above is not None and below:
                ratios.append(above / below)
    taken = samples.samples
    return Line(
        peer=contender.name,
        base=peer.name,
        way=contender.way,
        point=contender.point,
        kind=peer.kind,
        is_ours=peer.is_ours,
        is_executor="no executor" not in peer.name and "bare" not in peer.name,
        count=min((sample.count for sample in taken), default=0),
        value=median(list(values.values())) if values else None,
        ratio=median(ratios) if ratios else None,
        disturbed=[
            sample.round for sample in taken if _is_disturbed(sample.calibration_s, limit_s)
        ],
        failure=samples.failure,
        remark=samples.remark,
        rounds=[sample.round for sample in taken],
        values=[sample.figures[figure.name] for sample in taken],
        calibration_s=[sample.calibration_s for sample in taken],
    )


def _ours(row: Row, samples: Samples, these: Sequence[Samples]) -> Samples | None:
    """ungil's contender of the same kind and point; in the first of its ways, which is the plain
    one, unless the other has the same way too."""
    contender = samples.contender
    ours = [
        each
        for each in these
        if each.contender.peer.is_ours
        and each.contender.peer.kind == contender.peer.kind
        and each.contender.point == contender.point
    ]
    same = [
        each for each in ours if each.contender.way.split("_")[0] == contender.way.split("_")[0]
    ]
    return (same or ours or [None])[0]


def _by_round(samples: Samples | None, figure: Figure) -> dict[int, float]:
    if samples is None:
        return {}
    return {sample.round: sample.figures[figure.name] for sample in samples.samples}


def multiple(above: dict[str, Any], below: dict[str, Any]) -> Median | None:
    """One line's values as a multiple of another's, within the rounds that both were measured in."""
    others = dict(zip(below["rounds"], below["values"], strict=True))
    ratios = [
        value / others[number]
        for number, value in zip(above["rounds"], above["values"], strict=True)
        if others.get(number)
    ]
    return median(ratios) if ratios else None


def multiple_text(ratio: Median) -> str:
    return f"{digits(ratio.median)} × [{digits(ratio.low)} – {digits(ratio.high)}]"


def write(written: dict[str, Any], file: Path) -> None:
    """Writes a document so that people can read it, and a version control compare it."""
    text = json.dumps(_rounded(written), indent=1, ensure_ascii=False)
    # Innermost lists are lists of numbers, and a line of its own for each number helps nobody.
    text = re.sub(r"\[\s+([^\[\]{}\"]+?)\s+\]", lambda found: _on_one_line(found[1]), text)
    file.write_text(text + "\n", encoding="utf-8")


def _on_one_line(inner: str) -> str:
    return f"[{' '.join(inner.split())}]"


def _rounded(value: Any) -> Any:
    """Six digits of every number: more were never measured."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(each) for each in value]
    return value


def read(file: Path) -> dict[str, Any]:
    """A document that ``write`` has written.

    Raises:
        ValueError: Another version of the benchmark wrote it.
    """
    document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if document.get("format") != FORMAT:
        raise ValueError(f"{file} has format {document.get('format')}, and this reads {FORMAT}")
    return document
