"""The page of the benchmarks, made of documents and of nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ungil_bench import document
from ungil_bench.amounts import amount, counted, digits, point_text
from ungil_bench.goals import GOALS, Figures
from ungil_bench.plots import Plot, plot, sentence
from ungil_bench.program import disturbance

# In the order of the page; any of them may be missing.
SECTIONS = {
    "executors": "The executors beside their peers",
    "growth": "How cost grows",
}
Document = dict[str, Any]


def documents(folder: Path) -> list[Document]:
    """Those that lie in a folder, in the order of the page."""
    files = [folder / f"{name}.json" for name in SECTIONS]
    return [document.read(file) for file in files if file.exists()]


def plots(them: Sequence[Document]) -> list[Plot]:
    """All pictures of a page."""
    found = [plot(each["bench"], row) for each in them for row in each["rows"]]
    return [each for each in found if each is not None]


def page(them: Sequence[Document]) -> str:
    """The page, as Markdown."""
    return "\n".join(_lines(them)) + "\n"


def _lines(them: Sequence[Document]) -> Iterator[str]:
    files = " and ".join(f"[{each['bench']}.json]({each['bench']}.json)" for each in them)
    yield "# Benchmarks"
    yield ""
    yield (
        f"`make bench-page` has measured and written this page. Everything in it comes from {files}, "
        "where every sample is. What the rows mean and how peers are used says "
        "[benches/README.md](../../benches/README.md)."
    )
    yield ""
    yield (
        "A figure is the median of the rounds; in brackets is an interval that holds the true median "
        "with the probability that is said, whatever the distribution. *ungil is* says how many times "
        "as good ungil's executor of the same kind is, in the same way if it has that, from ratios within "
        "each round."
    )
    for each in them:
        if each["bench"] == "executors":
            yield from _goals(each)
    for each in them:
        yield from _section(each)
    for each in them:
        yield from _circumstances(each)


def _goals(each: Document) -> Iterator[str]:
    yield ""
    yield "## Goals"
    yield ""
    yield from _table_head(["work", "goal", "measured", "beside", "reached"])
    figures = Figures(each)
    for goal in GOALS:
        reached = goal.reached(figures)
        if reached is None:
            yield _cells([goal.work, goal.wanted, "not measured", "", "–"])
        else:
            answer = "yes" if reached.is_reached else "**no**"
            yield _cells([goal.work, goal.wanted, reached.value, reached.beside, answer])


def _section(each: Document) -> Iterator[str]:
    yield ""
    yield f"## {SECTIONS[each['bench']]}"
    meaning = None
    for row in each["rows"]:
        yield ""
        yield f"### {row['title'][:1].upper()}{row['title'][1:]}"
        yield ""
        if row["meaning"] != meaning:
            meaning = row["meaning"]
            yield meaning
            yield ""
        if picture := plot(each["bench"], row):
            yield f"![{_escaped(row['title'])}]({picture.file})"
            yield ""
            yield _escaped(sentence(row))
            yield ""
        yield from _table(row) if row["axis"] is None else _matrix(row)


def _table(row: dict[str, Any]) -> Iterator[str]:
    yield from _table_head(
        ["", "median", "interval", "ungil is", "interval", "in one sample", "samples"], "lrlrlrr"
    )
    for line in row["lines"]:
        value, ratio = line["value"], line["ratio"]
        cells = [_name(line)]
        if value is not None:
            cells += [amount(value["median"], row["unit"]), _interval(value, row["unit"])]
            cells += [f"{digits(ratio['median'])} ×", _ratio_interval(ratio)] if ratio else ["", ""]
            cells += [str(line["count"]), str(len(line["rounds"]))]
        if reason := _reason(line):
            cells[1:2] = [f"{cells[1]}; {reason}" if value is not None else reason]
        yield _cells(cells + [""] * (7 - len(cells)))
    yield ""
    yield _coverage(row)


def _matrix(row: dict[str, Any]) -> Iterator[str]:
    """A row of cells for each point, or for each contender if there are many."""
    unit = row["axis"]["unit"]
    points = list(dict.fromkeys(line["point"] for line in row["lines"]))
    peers = list(dict.fromkeys(line["peer"] for line in row["lines"]))
    cells = {(line["peer"], line["point"]): _cell(row, line) for line in row["lines"]}
    first = {line["peer"]: line for line in reversed(row["lines"])}
    texts = {point: point_text(point, unit) for point in points}
    if len(peers) <= 4:
        yield from _table_head([row["axis"]["title"], *(_name(first[peer]) for peer in peers)])
        for point in points:
            yield _cells([texts[point], *(cells.get((peer, point), "") for peer in peers)])
    else:
        yield from _table_head([row["axis"]["title"], *texts.values()])
        for peer in peers:
            yield _cells([_name(first[peer]), *(cells.get((peer, point), "") for point in points)])
    yield ""
    yield f"In bold: how many times as good ungil is. {_coverage(row)}"


def _cell(row: dict[str, Any], line: dict[str, Any]) -> str:
    parts = []
    if line["value"] is not None:
        value = line["value"]
        parts.append(f"{amount(value['median'], row['unit'])} [{_interval(value, row['unit'])}]")
    if line["ratio"] is not None:
        ratio = line["ratio"]
        parts.append(f"**{digits(ratio['median'])} ×** [{_ratio_interval(ratio)}]")
    if reason := _reason(line):
        parts.append(reason)
    return "<br>".join(parts)


def _name(line: dict[str, Any]) -> str:
    return f"**{line['peer']}**" if line["is_ours"] else str(line["peer"])


def _reason(line: dict[str, Any]) -> str:
    if line["failure"] is not None:
        return f"failed: {line['failure']}"
    return line["remark"] or ""


def _interval(value: dict[str, float], unit: str) -> str:
    return f"{amount(value['low'], unit)} – {amount(value['high'], unit)}"


def _ratio_interval(ratio: dict[str, float]) -> str:
    return f"{digits(ratio['low'])} – {digits(ratio['high'])}"


def _coverage(row: dict[str, Any]) -> str:
    coverages = {f"{100 * line['value']['coverage']:.0f}" for line in row["lines"] if line["value"]}
    if not coverages:
        return "Nobody was measured."
    ordered = sorted(coverages, key=int)
    return (
        f"Probability of the intervals: {' to '.join(dict.fromkeys([ordered[0], ordered[-1]]))} %."
    )


def _circumstances(each: Document) -> Iterator[str]:
    machine = each["machine"]
    yield ""
    yield f"## How it was measured: {SECTIONS[each['bench']].lower()}"
    yield ""
    yield from _table_head(["", ""])
    memory = machine["memory_bytes"]
    facts = {
        "command": f"`{each['command']}`",
        "date": each["date"],
        "took": f"{each['elapsed_s']:.0f} s, {counted(each['sizes']['rounds'], 'round')}, "
        f"seed {each['seed']}",
        "CPU": f"{machine['cpu']}, {machine['cpus']}, of which {machine['usable_cpus']} usable",
        "memory": amount(memory, "B") if memory else "unknown",
        "kernel": machine["kernel"],
        **each["versions"],
    }
    for name, fact in facts.items():
        yield _cells([name, str(fact)])
    yield ""
    if each["left_out"]:
        yield "**Left out:**"
        yield ""
        for name, reason in each["left_out"].items():
            yield f"- {_escaped(name)}: {_escaped(reason)}"
        yield ""
    yield disturbance(each)
    yield ""
    disturbed = list(_disturbed(each))
    if disturbed:
        yield "Disturbed samples, which are in the figures like all others:"
        yield ""
        yield from _table_head(["row", "contender", "disturbed samples", "in rounds"])
        yield from disturbed


def _disturbed(each: Document) -> Iterator[str]:
    """A line for each contender of a row that has such samples, at all its points together."""
    # The figures of a row come from the same samples.
    first = {row["row"]: row for row in reversed(each["rows"])}
    for name in dict.fromkeys(row["row"] for row in each["rows"]):
        lines = first[name]["lines"]
        for peer in dict.fromkeys(line["peer"] for line in lines):
            its = [line for line in lines if line["peer"] == peer]
            disturbed = [number for line in its for number in line["disturbed"]]
            if disturbed:
                samples = sum(len(line["rounds"]) for line in its)
                rounds = ", ".join(str(number + 1) for number in sorted(set(disturbed)))
                yield _cells([name, peer, f"{len(disturbed)} of {samples}", rounds])


def _table_head(names: Sequence[str], alignment: str = "") -> Iterator[str]:
    yield _cells(names)
    rules = {"l": "---", "r": "---:"}
    yield f"| {' | '.join(rules[each] for each in alignment or 'l' * len(names))} |"


def _cells(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_escaped, cells))} |"


def _escaped(text: str) -> str:
    """Text that cannot end a cell or begin markup that nobody wrote."""
    text = " ".join(text.split()).replace("|", "\\|").replace("__", "\\_\\_")
    return text.replace("<", "&lt;").replace("&lt;br>", "<br>")
