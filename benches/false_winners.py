"""How often a comparison names a winner among twins, and how often it finds a real difference.

An A/A run compares the stdlib's threads with themselves under another name. Whatever wins there
is a false winner; at most 5 % of the runs may have one. A planted run adds 10 % to one of them,
which has to be found. Both go through the whole experiment, processes and all.

    make bench BENCH=false_winners ARGS="--comparisons 100"

Works that are compared: a wait, native code without the GIL, and Python under the GIL.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import ungil
from ungil.report import Report

BLOCK = b"x" * 400_000


def wait(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def digest(rounds: int) -> str:
    value = hashlib.sha256(BLOCK)
    for _ in range(rounds - 1):
        value.update(BLOCK)
    return value.hexdigest()


def count(steps: int) -> int:
    while steps > 0:
        steps -= 1
    return steps


WORKS = {
    "wait": (wait, [0.003] * 8, 8),
    "digest": (digest, [10] * 8, 2),
    "count": (count, [40_000] * 8, 2),
}


@dataclass
class Tally:
    """What came of the comparisons of one work."""

    work: str
    comparisons: int = 0
    false_winners: int = 0
    found: int = 0
    found_wrong: int = 0
    rounds: int = 0


def verdict(report: Report, name: str) -> str | None:
    """The engine that beat its twin, if the comparison says that one did."""
    advice = report.repeated
    if advice is None or advice.certainty == "undecided":
        return None
    twins = [each for each in advice.fastest if each.engine in ("stdlib", name)]
    return twins[0].engine if len(twins) == 1 else None


def compare(work: str, engine: str, budget: float) -> Report:
    function, items, workers = WORKS[work]
    return ungil.compare(
        function,
        items,
        workers=workers,
        models=["threads"],
        engines=["stdlib", engine],
        budget=budget,
    )


def run(work: str, comparisons: int, budget: float) -> Tally:
    tally = Tally(work)
    for _ in range(comparisons):
        same = compare(work, "twin_engine:TWIN", budget)
        planted = compare(work, "twin_engine:SLOWER", budget)
        tally.comparisons += 1
        tally.false_winners += verdict(same, "twin_engine:TWIN") is not None
        winner = verdict(planted, "twin_engine:SLOWER")
        tally.found += winner == "stdlib"
        tally.found_wrong += winner == "twin_engine:SLOWER"
        tally.rounds += same.data["course"]["rounds"]
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comparisons", type=int, default=20, help="of each work [20]")
    parser.add_argument("--budget", type=float, default=4.0, help="seconds of each [4]")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent))
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs, ungil {ungil.__version__}")
    print(f"{'work':<8}{'comparisons':>12}{'false winners':>15}{'10 % found':>12}{'rounds':>8}")
    tallies = [run(work, options.comparisons, options.budget) for work in WORKS]
    for tally in tallies:
        rounds = tally.rounds / tally.comparisons
        print(
            f"{tally.work:<8}{tally.comparisons:>12}{tally.false_winners:>15}{tally.found:>12}"
            f"{rounds:>8.1f}"
        )
    if options.json:
        options.json.write_text(json.dumps([asdict(tally) for tally in tallies], indent=2) + "\n")
    runs = sum(tally.comparisons for tally in tallies)
    false_winners = sum(tally.false_winners for tally in tallies)
    found = sum(tally.found for tally in tallies)
    print(f"false winners: {false_winners} of {runs}; planted 10 % found: {found} of {runs}")
    return 0 if false_winners <= 0.05 * runs else 1


if __name__ == "__main__":
    sys.exit(main())
