"""ungil's executors beside those of the stdlib: what a task costs, and what a pool costs.

    make bench
    make bench ARGS="--quick --rows burst,trip --json figures.json"

In every round each peer is measured once for each row, in random order. A figure is the median of
the rounds, and its interval assumes no distribution. A ratio is taken within each round, so what
slows down a whole round cancels out: it says how many times as fast ungil is. Slow peers are given
fewer tasks, and rates are compared.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import ungil
from peers import PEERS, Peer, usable_cpus
from rounds import DISTURBED, Median, calibrate, median

MEASURE = Path(__file__).with_name("measure.py")
# Whoever takes longer than this for one sample is stuck.
STUCK_S = 30.0

FULL = {"rounds": 9, "burst": 20_000, "trips": 500, "map": 1_000_000, "array_mib": 100}
FULL |= {"seconds": 0.2}
QUICK = {"rounds": 3, "burst": 2_000, "trips": 100, "map": 50_000, "array_mib": 8}
QUICK |= {"seconds": 0.03}

# Each row has the figures of one kind of measurement.
ROWS = {
    "burst": {"rate": "burst of {burst} no-ops, one task each: all begun, then all results"},
    "trip": {
        "p50": "round trip of one no-op, median",
        "p99": "round trip of one no-op, 99th percentile",
    },
    "pause": {"p50": "round trip of one no-op after 5 ms of rest, median"},
    "map": {"rate": "map of {map} no-ops, as the peer does it by itself"},
    "argument": {"time": "array of {array_mib} MiB as argument"},
    "result": {"time": "array of {array_mib} MiB as result"},
    "start": {
        "import": "import in a fresh interpreter",
        "first": "first result of a fresh interpreter, after the import",
        "second": "first result of the second pool in that process",
    },
}


@dataclass(frozen=True)
class Contender:
    """A peer, in one of its ways of doing what a row asks for."""

    row: str
    peer: Peer
    way: str

    @property
    def name(self) -> str:
        ways = {"burst": self.peer.burst_ways, "map": self.peer.map_ways}.get(self.row, ())
        return (
            f"{self.peer.name}, {self.way.replace('_', ' ')}" if len(ways) > 1 else self.peer.name
        )


@dataclass
class Sample:
    """One measurement of a contender."""

    round: int
    count: int
    figures: dict[str, float]
    calibration_s: tuple[float, float]


@dataclass
class Samples:
    """All measurements of a contender, or why there are no more."""

    contender: Contender
    samples: list[Sample] = field(default_factory=list)
    failure: str | None = None


class Failed(Exception):
    """A peer could not be measured."""


class PeerProcess:
    """The process that a peer is measured in."""

    def __init__(self, command: list[str]) -> None:
        # Who asks that nothing compiled is kept does not ask how long compiling takes each time.
        environment = {**os.environ}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        # A group of its own, so that nobody's workers outlive an interrupted benchmark.
        self._process = subprocess.Popen(
            [sys.executable, str(MEASURE), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            process_group=0,
        )

    def ask(self, request: dict[str, Any] | None) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if request is not None:
            try:
                print(json.dumps(request), file=self._process.stdin, flush=True)
            except BrokenPipeError:
                raise Failed("its process has ended") from None
        ready, _, _ = select.select([self._process.stdout], [], [], STUCK_S)
        if not ready:
            raise Failed(f"no figures after {STUCK_S:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise Failed("its process has ended")
        return json.loads(line)

    def close(self, is_forced: bool = False) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            if not is_forced:
                self._process.wait(STUCK_S)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            is_forced = True
        if is_forced:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class Bench:
    """The rounds, and the processes that they need."""

    def __init__(self, contenders: list[Contender], sizes: dict[str, Any], seed: int) -> None:
        self.all = [Samples(contender) for contender in contenders]
        self._sizes = sizes
        self._random = random.Random(seed)
        self._processes: dict[str, PeerProcess] = {}

    def run(self, rounds: int) -> None:
        try:
            for number in range(rounds):
                for row in ROWS:
                    these = [each for each in self.all if each.contender.row == row]
                    self._random.shuffle(these)
                    for samples in these:
                        if samples.failure is None:
                            self._sample(samples, number)
        except BaseException:
            self._close(is_forced=True)
            raise
        self._close()

    def _sample(self, samples: Samples, number: int) -> None:
        contender = samples.contender
        name = contender.peer.name
        before = calibrate()
        try:
            if contender.row == "start":
                answer = self._started_afresh(name)
            else:
                if name not in self._processes:
                    self._processes[name] = PeerProcess(["serve", name])
                request = {"row": contender.row, "way": contender.way, "sizes": self._sizes}
                answer = self._processes[name].ask(request)
        except Failed as error:
            samples.failure = str(error)
            if name in self._processes:
                self._processes.pop(name).close(is_forced=True)
            return
        calibration = (before, calibrate())
        samples.samples.append(Sample(number, answer["count"], answer["figures"], calibration))

    def _started_afresh(self, name: str) -> dict[str, Any]:
        process = PeerProcess(["start", name, str(self._sizes["workers"])])
        try:
            answer = process.ask(None)
        except BaseException:
            process.close(is_forced=True)
            raise
        process.close()
        return answer

    def _close(self, is_forced: bool = False) -> None:
        while self._processes:
            self._processes.popitem()[1].close(is_forced)


def contenders(rows: list[str], words: list[str]) -> list[Contender]:
    """Everybody who takes part, in the order of the table."""
    found = []
    for peer in PEERS:
        if words and not peer.is_ours and not any(word in peer.name for word in words):
            continue
        try:
            peer.load()
        except ImportError as error:
            print(f"{peer.name} is left out: {error}", file=sys.stderr)
            continue
        for row in [row for row in rows if row in peer.rows]:
            ways = {"burst": peer.burst_ways, "map": peer.map_ways}.get(row, ("call",))
            found += [Contender(row, peer, way) for way in ways]
    return found


@dataclass
class Line:
    """What the table says of a contender and a figure."""

    peer: str
    kind: str
    count: int
    value: Median | None
    ratio: Median | None
    disturbed: int
    failure: str | None
    samples: list[dict[str, Any]]


@dataclass
class Row:
    """A figure of all contenders. ``unit`` is ``tasks/s`` or ``s``."""

    row: str
    figure: str
    title: str
    unit: str
    lines: list[Line]


def summarize(everybody: list[Samples], sizes: dict[str, Any], limit_s: float) -> Iterator[Row]:
    for row, figures in ROWS.items():
        these = [each for each in everybody if each.contender.row == row]
        for figure, title in figures.items() if these else ():
            is_rate = figure == "rate"
            own = {
                each.contender.peer.kind: _by_round(each, figure)
                for each in these
                if each.contender.peer.is_ours
            }
            lines = [
                _line(each, figure, own.get(each.contender.peer.kind, {}), is_rate, limit_s)
                for each in these
            ]
            texts = {
                name: f"{value:,}".replace(",", " ")
                for name, value in sizes.items()
                if isinstance(value, int)
            }
            yield Row(row, figure, title.format(**texts), "tasks/s" if is_rate else "s", lines)


def _by_round(samples: Samples, figure: str) -> dict[int, float]:
    return {sample.round: sample.figures[figure] for sample in samples.samples}


def _line(
    samples: Samples, figure: str, own: dict[int, float], is_rate: bool, limit_s: float
) -> Line:
    peer = samples.contender.peer
    values = _by_round(samples, figure)
    ratios = [
        own[number] / value if is_rate else value / own[number]
        for number, value in values.items()
        if number in own and not peer.is_ours
    ]
    taken = samples.samples
    return Line(
        peer=samples.contender.name,
        kind=peer.kind,
        count=min((sample.count for sample in taken), default=0),
        value=median(list(values.values())) if values else None,
        ratio=median(ratios) if ratios else None,
        disturbed=sum(max(sample.calibration_s) > limit_s for sample in taken),
        failure=samples.failure,
        samples=[
            {
                "round": sample.round,
                "count": sample.count,
                "value": sample.figures[figure],
                "calibration_s": sample.calibration_s,
            }
            for sample in taken
        ],
    )


def amount(value: float, unit: str) -> str:
    """A value with three digits and a unit that suits it."""
    if unit == "tasks/s":
        scales = [(1e6, "M/s"), (1e3, "k/s"), (1.0, "/s")]
    else:
        scales = [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs")]
    scale, name = next((each for each in scales if value >= each[0]), scales[-1])
    return f"{_digits(value / scale)} {name}"


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def show(row: Row) -> None:
    print(f"\n{row.title}")
    print(f"  {'':<44}{'median':>10}  {'interval':<23}{'ungil is':>9}  {'interval':<15}", end="")
    print(f"{'n':>8} disturbed")
    for line in row.lines:
        said = f"  {line.peer:<44}"
        if line.value is not None:
            low, high = amount(line.value.low, row.unit), amount(line.value.high, row.unit)
            said += f"{amount(line.value.median, row.unit):>10}  {low + ' – ' + high:<23}"
            ratio = interval = ""
            if line.ratio is not None:
                ratio = f"{_digits(line.ratio.median)} ×"
                interval = f"{_digits(line.ratio.low)} – {_digits(line.ratio.high)}"
            disturbed = f"{line.disturbed} of {len(line.samples)}" if line.disturbed else ""
            said += f"{ratio:>9}  {interval:<15}{line.count:>8} {disturbed}"
        if line.failure is not None:
            said += f"  FAILED: {line.failure}"
        print(said.rstrip())


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, three rounds")
    parser.add_argument("--rows", help=f"some of {','.join(ROWS)} [all]")
    parser.add_argument("--peers", help="words; only peers that have one in their name, and ungil")
    parser.add_argument("--workers", type=int, default=2, help="processes, or threads [2]")
    helps = {
        "rounds": "every peer once in each",
        "burst": "tasks of a burst",
        "trips": "round trips",
        "map": "items of a map",
        "array_mib": "size of the array",
        "seconds": "a sample has fewer tasks if it would take longer",
    }
    for name, text in helps.items():
        kind = float if name == "seconds" else int
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(
            flag, dest=name, type=kind, help=f"{text} [{FULL[name]}; quick: {QUICK[name]}]"
        )
    parser.add_argument("--seed", type=int, help="of the order within rounds [another each time]")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    chosen = parser.parse_args()
    for name, value in (QUICK if chosen.quick else FULL).items():
        if getattr(chosen, name) is None:
            setattr(chosen, name, value)
        elif getattr(chosen, name) <= 0:
            parser.error(f"--{name.replace('_', '-')} must be greater than 0")
    if chosen.seed is None:
        chosen.seed = random.SystemRandom().randrange(1 << 32)
    chosen.rows = chosen.rows.split(",") if chosen.rows else list(ROWS)
    unknown = [row for row in chosen.rows if row not in ROWS]
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    return chosen


def main() -> int:
    chosen = options()
    everybody = contenders(chosen.rows, chosen.peers.split(",") if chosen.peers else [])
    names = ("burst", "trips", "map", "seconds", "workers", "array_mib")
    sizes = {name: getattr(chosen, name) for name in names}
    bench = Bench(everybody, {**sizes, "array": chosen.array_mib << 20}, chosen.seed)
    load = os.getloadavg()
    started = time.perf_counter()
    bench.run(chosen.rounds)
    elapsed = time.perf_counter() - started

    calibrations = [
        value for each in bench.all for sample in each.samples for value in sample.calibration_s
    ]
    fastest = min(calibrations, default=0.0)
    rows = list(summarize(bench.all, sizes, DISTURBED * fastest))
    failures = [each for each in bench.all if each.failure is not None]
    taken = [sample for each in bench.all for sample in each.samples]
    disturbed = sum(max(sample.calibration_s) > DISTURBED * fastest for sample in taken)

    print(
        f"Python {platform.python_version()}, {usable_cpus()} CPUs, ungil {ungil.__version__}: "
        f"{chosen.workers} workers, {chosen.rounds} rounds in {elapsed:.0f} s"
    )
    coverage = median([0.0] * chosen.rounds).coverage
    print(f"An interval holds the true median with a probability of {100 * coverage:.0f} %.")
    for row in rows:
        show(row)
    print()
    if taken:
        print(
            f"The machine was disturbed around {disturbed} of {len(taken)} samples: a fixed loop "
            f"took more than {DISTURBED} times its fastest, {1000 * fastest:.1f} ms, before or "
            f"after; its median was {1000 * median(calibrations).median:.1f} ms, and the load "
            f"average {load[0]:.1f} at the start."
        )
    if chosen.json:
        document = {
            "python": platform.python_version(),
            "ungil": ungil.__version__,
            "cpus": usable_cpus(),
            "rounds": chosen.rounds,
            "seed": chosen.seed,
            "sizes": sizes,
            "elapsed_s": elapsed,
            "load_average": load,
            "calibration": {
                "fastest_s": fastest,
                "samples": len(taken),
                "disturbed": disturbed,
                "limit": DISTURBED,
            },
            "rows": [asdict(row) for row in rows],
        }
        chosen.json.write_text(json.dumps(document, indent=2) + "\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
