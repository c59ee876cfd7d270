"""Draws plots with matplotlib, for light backgrounds; who is who can be told without colour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from ungil_bench.amounts import amount, point_text
from ungil_bench.plots import Mark, Plot, Series

_OURS = "#0b4f8a"
_OTHERS = "#8a4b0b"
_NONE = "#555555"
_SHAPES = {"processes": "o", "threads": "s"}
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
_DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)))
_AXES = {
    "tasks/s": "tasks in a second",
    "s": "time",
    "B": "memory",
    "/s": "times in a second",
    "1": "",
}
# Text stays text, in whatever font the reader has; the same figures give the same file.
_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ungil",
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.7,
}


def draw(plot: Plot, file: Path) -> None:
    """Writes a picture in the format that the file's ending says."""
    with matplotlib.rc_context(_SETTINGS):
        figure = _SHAPES_OF_PLOTS[plot.shape](plot)
        metadata = None
        if file.suffix == ".svg":
            metadata = {"Date": None, "Creator": None, "Title": plot.title}
            metadata["Description"] = plot.digest
        figure.savefig(file, metadata=metadata, facecolor="white", dpi=110)


def _ranking(plot: Plot) -> Figure:
    figure, axes = _figure(plot, 0.27 * len(plot.series) + 1.1)
    _contenders(plot, axes, plot.series, [series.marks[0] for series in plot.series])
    axes.set_xlabel(_value_label(plot))
    return figure


def _panels(plot: Plot) -> Figure:
    points = list(dict.fromkeys(mark.at for series in plot.series for mark in series.marks))
    figure = Figure(figsize=(8.0, 0.27 * len(plot.series) + 1.4), layout="constrained")
    figure.suptitle(plot.title, fontsize=10, x=0.01, ha="left")
    columns = figure.subplots(1, len(points), sharex=True, sharey=True, squeeze=False)[0]
    for point, axes in zip(points, columns, strict=True):
        at = [{mark.at: mark for mark in series.marks}.get(point) for series in plot.series]
        _contenders(plot, axes, plot.series, at)
        axes.set_title(f"{plot.axis}: {point_text(point, plot.axis_unit)}", fontsize=9)
    figure.supxlabel(_value_label(plot), fontsize=9)
    return figure


def _contenders(
    plot: Plot, axes: Axes, contenders: Sequence[Series], marks: Sequence[Mark | None]
) -> None:
    """A line for each contender."""
    for place, (series, mark) in enumerate(zip(contenders, marks, strict=True)):
        if mark is not None:
            _interval(axes, mark, place, _style(series))
            axes.annotate(
                amount(mark.median, plot.unit),
                (1.02, place),
                xycoords=("axes fraction", "data"),
                va="center",
                fontweight="bold" if series.is_ours else "normal",
            )
    _names(axes, [series.name for series in contenders])
    # Of several panels only the first has them.
    for label, series in zip(axes.get_yticklabels(), contenders, strict=False):
        label.set_fontweight("bold" if series.is_ours else "normal")
    _value_axis(plot, axes.xaxis, axes.set_xscale, axes.set_xlim)


def _groups(plot: Plot) -> Figure:
    points = list(dict.fromkeys(mark.at for series in plot.series for mark in series.marks))
    count = len(plot.series)
    figure, axes = _figure(plot, 0.2 * len(points) * (count + 0.6) + 1.5)
    for number, series in enumerate(plot.series):
        style = _style(series) | {"marker": _MARKERS[number % len(_MARKERS)], "label": series.name}
        for mark in series.marks:
            place = points.index(mark.at) + (number - (count - 1) / 2) * 0.7 / count
            _interval(axes, mark, place, style)
            # One entry in the legend is enough.
            style.pop("label", None)
    for place in range(1, len(points)):
        axes.axhline(place - 0.5, color="#dddddd", linewidth=0.7)
    _names(axes, [str(point) for point in points])
    axes.grid(visible=False, axis="y")
    _value_axis(plot, axes.xaxis, axes.set_xscale, axes.set_xlim)
    axes.set_xlabel(_value_label(plot))
    _legend(figure, axes)
    return figure


def _curves(plot: Plot) -> Figure:
    figure, axes = _figure(plot, 3.6 + 0.2 * ((len(plot.series) + 1) // 2))
    points: set[float] = set()
    for number, series in enumerate(plot.series):
        style = _style(series)
        xs = [float(mark.at) for mark in series.marks]
        points.update(xs)
        axes.errorbar(
            xs,
            [mark.median for mark in series.marks],
            yerr=[
                [mark.median - mark.low for mark in series.marks],
                [mark.high - mark.median for mark in series.marks],
            ],
            marker=_MARKERS[number % len(_MARKERS)],
            markersize=5,
            markerfacecolor=style["markerfacecolor"],
            color=style["color"],
            linestyle=_DASHES[number % len(_DASHES)],
            linewidth=2.0 if series.is_ours else 1.2,
            elinewidth=1.0,
            capsize=2,
            label=series.name,
        )
    axes.set_xscale("log")
    axes.margins(x=0.04)
    axes.set_xticks(sorted(points))
    is_whole = plot.axis_unit in ("1", "B")
    texts = [point_text(int(at) if is_whole else at, plot.axis_unit) for at in sorted(points)]
    axes.set_xticklabels(texts, rotation=30 if sum(map(len, texts)) > 50 else 0)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(plot.axis)
    _value_axis(plot, axes.yaxis, axes.set_yscale, axes.set_ylim)
    axes.set_ylabel(_value_label(plot))
    _legend(figure, axes)
    return figure


_SHAPES_OF_PLOTS: dict[str, Callable[[Plot], Figure]] = {
    "ranking": _ranking,
    "panels": _panels,
    "curves": _curves,
    "groups": _groups,
}


def _figure(plot: Plot, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8.0, height), layout="constrained")
    axes = figure.add_subplot()
    figure.suptitle(plot.title, fontsize=10, x=0.01, ha="left")
    return figure, axes


def _style(series: Series) -> dict[str, Any]:
    """Ours are filled, others hollow, and what is no executor a cross."""
    if not series.is_executor:
        return {"marker": "x", "color": _NONE, "markerfacecolor": _NONE}
    color = _OURS if series.is_ours else _OTHERS
    filling = color if series.is_ours else "white"
    return {"marker": _SHAPES[series.kind], "color": color, "markerfacecolor": filling}


def _interval(axes: Axes, mark: Mark, place: float, style: dict[str, Any]) -> None:
    axes.errorbar(
        [mark.median],
        [place],
        xerr=[[mark.median - mark.low], [mark.high - mark.median]],
        markersize=6,
        elinewidth=1.2,
        capsize=2.5,
        linestyle="none",
        clip_on=False,
        **style,
    )


def _names(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)


def _value_axis(plot: Plot, axis: Any, set_scale: Any, set_limits: Any) -> None:
    values = [end for each in plot.series for mark in each.marks for end in (mark.low, mark.high)]
    if plot.is_linear:
        set_limits(0, (max(values) * 1.08) or 1)
    else:
        set_scale("log")
        low, high = min(values), max(values)
        # A decade at least, or the ticks have no numbers.
        widening = max(1.3, (10 / (high / low)) ** 0.5)
        set_limits(low / widening, high * widening)
        axis.set_major_locator(LogLocator(base=2 if plot.unit == "B" else 10, numticks=8))
        axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: amount(value, plot.unit)))


def _value_label(plot: Plot) -> str:
    better = "more is better" if plot.is_rate else "less is better"
    return ", ".join(filter(None, [_AXES[plot.unit], better]))


def _legend(figure: Figure, axes: Axes) -> None:
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower left",
        ncols=2,
        frameon=False,
        handlelength=4.5,
    )
