"""What both benchmarks do: measure rows with peers, print the tables, write the JSON."""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ungil

from ungil_bench import document, machine
from ungil_bench.amounts import counted
from ungil_bench.bench import Bench, Entries, enter
from ungil_bench.peers import Peer
from ungil_bench.readings import usable_cpus
from ungil_bench.rounds import DISTURBED, median
from ungil_bench.rows.row import Row
from ungil_bench.table import show

# The exit status if everything was measured but peers that failed.
PEER_FAILED = 3


class Program:
    """One benchmark: its rows, and the sizes that it can be given.

    Attributes:
        name: Of its file in ``benches/``.
        rows: What it measures.
        full: The sizes, as they are without ``--quick``.
        quick: The same, with it.
        helps: What each of the sizes is.
        words: Only peers that have one of these in their name take part, unless others are asked
            for; none: all.
    """

    def __init__(
        self,
        name: str,
        about: str,
        rows: Sequence[Row],
        full: dict[str, Any],
        quick: dict[str, Any],
        helps: dict[str, str],
        words: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.rows = rows
        self._about = about
        self._full = full
        self._quick = quick
        self._helps = helps
        self._words = words

    def parser(self) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(description=self._about)
        parser.add_argument("--quick", action="store_true", help="small sizes, three rounds")
        parser.add_argument(
            "--rows", help=f"some of {','.join(row.name for row in self.rows)} [all]"
        )
        parser.add_argument(
            "--peers",
            help="words; only peers that have one in their name, and ungil "
            f"[{','.join(self._words) or 'all'}]",
        )
        parser.add_argument("--heavy", action="store_true", help="Ray and Dask too")
        for name, text in self._helps.items():
            kind = float if isinstance(self._full[name], float) else int
            defaults = f"[{self._full[name]}; quick: {self._quick[name]}]"
            flag = f"--{name.replace('_', '-')}"
            parser.add_argument(flag, dest=name, type=kind, help=f"{text} {defaults}")
        parser.add_argument(
            "--seed", type=int, help="of the order within rounds [another each time]"
        )
        parser.add_argument("--json", type=Path, help="write the figures to a file")
        return parser

    def run(
        self, parser: argparse.ArgumentParser, chosen: argparse.Namespace, more: dict[str, Any]
    ) -> int:
        """Measures what was chosen. ``more`` are sizes that the caller has worked out."""
        sizes = self._sizes(parser, chosen) | more
        rows = self._chosen_rows(parser, chosen.rows)
        words = tuple(chosen.peers.split(",")) if chosen.peers else tuple(self._words)
        seed = chosen.seed
        if seed is None:
            seed = random.SystemRandom().randrange(1 << 32)

        def wanted(peer: Peer) -> bool:
            if peer.is_heavy and not chosen.heavy:
                return False
            return peer.is_ours or not words or any(word in peer.name for word in words)

        entries = enter(rows, wanted, sizes)
        for name, reason in entries.left_out.items():
            print(f"LEFT OUT: {name}: {reason}", file=sys.stderr)
        bench = Bench(entries.contenders, sizes, seed)
        load, date, started = os.getloadavg(), machine.now(), time.perf_counter()
        bench.run(sizes["rounds"], sizes["slow_every"])
        elapsed = time.perf_counter() - started

        calibration = document.calibration(bench.all)
        limit_s = DISTURBED * calibration["fastest_s"]
        written = {
            "format": document.FORMAT,
            "bench": self.name,
            "command": machine.command(),
            "date": date,
            "machine": machine.machine(),
            "versions": machine.versions(entries.versions),
            "left_out": entries.left_out,
            "seed": seed,
            "sizes": sizes,
            "elapsed_s": elapsed,
            "load_average": load,
            "calibration": calibration,
            "rows": document.rows(bench.all, sizes, limit_s),
        }
        self._print(written, entries)
        if chosen.json:
            document.write(written, chosen.json)
        return PEER_FAILED if any(each.failure is not None for each in bench.all) else 0

    def _sizes(self, parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> dict[str, Any]:
        sizes = {**(self._quick if chosen.quick else self._full)}
        for name in self._helps:
            given = getattr(chosen, name)
            if given is not None:
                if given <= 0:
                    parser.error(f"--{name.replace('_', '-')} must be greater than 0")
                sizes[name] = given
        return {**sizes, "cpus": usable_cpus()}

    def _chosen_rows(self, parser: argparse.ArgumentParser, names: str | None) -> list[Row]:
        if not names:
            return list(self.rows)
        known = [row.name for row in self.rows]
        unknown = [name for name in names.split(",") if name not in known]
        if unknown:
            parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(known)}")
        return [row for row in self.rows if row.name in names.split(",")]

    def _print(self, written: dict[str, Any], entries: Entries) -> None:
        rounds = written["sizes"]["rounds"]
        print(
            f"{written['versions']['Python']}, {usable_cpus()} CPUs, ungil {ungil.__version__}: "
            f"{counted(rounds, 'round')} in {written['elapsed_s']:.0f} s"
        )
        coverage = median([0.0] * rounds).coverage
        print(
            f"An interval holds the true median with a probability of {100 * coverage:.0f} %, "
            "where there are so many samples."
        )
        for row in written["rows"]:
            show(row)
        print()
        for name, reason in entries.left_out.items():
            print(f"LEFT OUT: {name}: {reason}")
        print(disturbance(written))


def disturbance(written: dict[str, Any]) -> str:
    """One sentence: how often the machine had other work."""
    calibration = written["calibration"]
    return (
        f"The machine was disturbed around {calibration['disturbed']} of {calibration['samples']} "
        f"samples: a fixed loop took more than {calibration['limit']} times its fastest, "
        f"{1000 * calibration['fastest_s']:.1f} ms, before or after; its median was "
        f"{1000 * calibration['median_s']:.1f} ms, and the load average "
        f"{written['load_average'][0]:.1f} at the start."
    )
