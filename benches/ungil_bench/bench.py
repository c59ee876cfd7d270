"""The rounds: who is measured when, and what came of it.

In every round each contender is measured once for each row, in random order. The rows that take
long have fewer rounds.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ungil_bench.cgroup import Unavailable, cpu_quota
from ungil_bench.peers import PEERS, Peer
from ungil_bench.process import Failed, PeerProcess
from ungil_bench.rounds import calibrate
from ungil_bench.rows.row import Point, Row, Sizes

# Importing a peer for the first time takes no longer, and no process takes longer to start.
PROBING_S = 60.0


@dataclass(frozen=True)
class Contender:
    """A peer, in one of its ways, at one point of a row."""

    row: Row
    peer: Peer
    way: str
    point: Point

    @property
    def name(self) -> str:
        """The peer's name, and the way if there are several."""
        if len(getattr(self.peer, self.row.ways)) == 1:
            return self.peer.name
        return f"{self.peer.name}, {self.way.replace('_', ' ')}"


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
    remark: str | None = None
    is_stopped: bool = False


@dataclass
class Entries:
    """Who takes part.

    Attributes:
        contenders: In the order of the tables.
        versions: Of the packages of the peers that take part.
        left_out: Peers, ways and rows that are not there, and why.
    """

    contenders: list[Contender]
    versions: dict[str, str]
    left_out: dict[str, str]


def enter(rows: Sequence[Row], wanted: Callable[[Peer], bool], sizes: Sizes) -> Entries:
    """Asks every peer, in a process of its own, whether it can be had."""
    entries = Entries([], {}, {})
    for peer in PEERS:
        its_rows = [row for row in rows if row.allows(peer)] if wanted(peer) else []
        if not its_rows:
            continue
        process = PeerProcess(["probe", peer.name])
        try:
            answer = process.ask(None, PROBING_S)
        except Failed as error:
            answer = {"missing": str(error)}
        finally:
            process.close()
        if "missing" in answer:
            entries.left_out[peer.name] = answer["missing"]
            continue
        entries.versions |= answer["versions"]
        lacks = answer["lacks"]
        for row in its_rows:
            for way in getattr(peer, row.ways):
                if way in lacks:
                    name = f"{peer.name}, {way.replace('_', ' ')}"
                    entries.left_out[name] = lacks[way]
                    continue
                points = row.points(sizes)
                entries.contenders += [Contender(row, peer, way, point) for point in points]
    _check_quotas(rows, entries, sizes)
    return entries


def _check_quotas(rows: Sequence[Row], entries: Entries, sizes: Sizes) -> None:
    for row in rows:
        if row.quota_cpus is not None:
            try:
                with cpu_quota(row.quota_cpus(sizes)):
                    pass
            except Unavailable as error:
                entries.left_out[f"the row {row.name}"] = str(error)
                entries.contenders = [each for each in entries.contenders if each.row is not row]


class Bench:
    """The rounds, and the processes that they need."""

    def __init__(self, contenders: Sequence[Contender], sizes: Sizes, seed: int) -> None:
        self.all = [Samples(contender) for contender in contenders]
        self._sizes = sizes
        self._random = random.Random(seed)
        self._processes: dict[str, PeerProcess] = {}

    def run(self, rounds: int, slow_every: int) -> None:
        rows = list(dict.fromkeys(each.contender.row for each in self.all))
        try:
            for number in range(rounds):
                for row in rows:
                    if not row.is_slow or number % slow_every == 0:
                        _say(f"round {number + 1} of {rounds}: {row.name}")
                        self._measure(row, number)
        except BaseException:
            self._close(is_forced=True)
            raise
        finally:
            _say("")
        self._close()

    def _measure(self, row: Row, number: int) -> None:
        these = [each for each in self.all if each.contender.row is row]
        self._random.shuffle(these)
        for samples in these:
            if samples.failure is None and not samples.is_stopped:
                self._sample(samples, number)

    def _sample(self, samples: Samples, number: int) -> None:
        before = calibrate()
        try:
            answer = self._answer(samples.contender)
        except Failed as error:
            samples.failure = str(error)
            return
        if (remark := answer.get("remark")) is not None:
            # Who was measured in another round is not left out, only stopped.
            samples.is_stopped = True
            samples.remark = None if samples.samples else remark
        else:
            calibration = (before, calibrate())
            figures = {name: float(value) for name, value in answer["figures"].items()}
            samples.samples.append(Sample(number, answer["count"], figures, calibration))

    def _answer(self, contender: Contender) -> dict[str, Any]:
        row, name = contender.row, contender.peer.name
        request = {
            "row": row.name,
            "way": contender.way,
            "sizes": self._sizes,
            "point": contender.point,
        }
        if row.quota_cpus is not None:
            with cpu_quota(row.quota_cpus(self._sizes)) as cgroup:
                return _ask_once(["serve", name], request, row, cgroup)
        if row.process == "start":
            return _ask_once(["start", name, str(self._sizes["workers"])], None, row)
        if row.process != "kept":
            return _ask_once(["serve", name], request, row)
        if name not in self._processes:
            self._processes[name] = PeerProcess(["serve", name])
        try:
            return self._processes[name].ask(request, row.patience_s)
        except Failed:
            # Nobody knows in which state it is: the next row has a new one.
            self._processes.pop(name).close(is_forced=True)
            raise

    def _close(self, is_forced: bool = False) -> None:
        while self._processes:
            self._processes.popitem()[1].close(is_forced)


def _ask_once(
    command: list[str], request: dict[str, Any] | None, row: Row, cgroup: Path | None = None
) -> dict[str, Any]:
    """An answer from a process that is there for nothing else."""
    process = PeerProcess(command, cgroup)
    is_forced = True
    try:
        answer = process.ask(request, row.patience_s)
        is_forced = row.process == "killed"
        return answer
    finally:
        process.close(is_forced)


def _say(text: str) -> None:
    """What is being done, to somebody who watches a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
