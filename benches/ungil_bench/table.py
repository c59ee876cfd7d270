"""The figures on a terminal."""

from __future__ import annotations

from typing import Any

from ungil_bench.amounts import amount, digits, point_text


def show(row: dict[str, Any]) -> None:
    """Prints one figure of a row for all contenders."""
    print(f"\n{row['title']}")
    width = max(44, *(len(_name(row, line)) + 2 for line in row["lines"]))
    print(
        f"  {'':<{width}}{'median':>10}  {'interval':<23}{'ungil is':>9}  {'interval':<15}", end=""
    )
    print(f"{'n':>8} disturbed")
    for line in row["lines"]:
        print(_line(row, line, width))


def _name(row: dict[str, Any], line: dict[str, Any]) -> str:
    if row["axis"] is None:
        return str(line["peer"])
    return f"{line['peer']}: {point_text(line['point'], row['axis']['unit'])}"


def _line(row: dict[str, Any], line: dict[str, Any], width: int) -> str:
    said = f"  {_name(row, line):<{width}}"
    value, ratio = line["value"], line["ratio"]
    if value is not None:
        low, high = amount(value["low"], row["unit"]), amount(value["high"], row["unit"])
        said += f"{amount(value['median'], row['unit']):>10}  {low + ' – ' + high:<23}"
        times = interval = ""
        if ratio is not None:
            times = f"{digits(ratio['median'])} ×"
            interval = f"{digits(ratio['low'])} – {digits(ratio['high'])}"
        disturbed = ""
        if line["disturbed"]:
            disturbed = f"{len(line['disturbed'])} of {len(line['rounds'])}"
        said += f"{times:>9}  {interval:<15}{line['count']:>8} {disturbed}"
    if line["failure"] is not None:
        said += f"  FAILED: {line['failure']}"
    if line["remark"] is not None:
        said += f"  {line['remark']}"
    return said.rstrip()
