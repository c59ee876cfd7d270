"""ungil's executors beside their peers: what a task costs, what a pool costs, what both are good for.

    make bench
    make bench ARGS="--quick --rows burst,trip --json figures.json"
    make bench ARGS="--heavy"

In every round each peer is measured once for each row, in random order. A figure is the median of
the rounds, and its interval assumes no distribution. A ratio is taken within each round, so what
slows down a whole round cancels out: it says how many times as good ungil is. Slow peers are given
fewer tasks, and rates are compared.

The exit status is 0; 2 if the arguments are wrong; 3 if a peer failed, and all others were measured.
"""

from __future__ import annotations

import sys

from ungil_bench.program import Program
from ungil_bench.rows import EXECUTORS

FULL = {"rounds": 9, "slow_every": 2, "workers": 2, "burst": 20_000, "trips": 500}
FULL |= {"map": 1_000_000, "array_mib": 100, "seconds": 0.2, "work_s": 0.8, "rest_s": 2.0}
QUICK = {"rounds": 3, "slow_every": 3, "workers": 2, "burst": 2_000, "trips": 100}
QUICK |= {"map": 50_000, "array_mib": 8, "seconds": 0.03, "work_s": 0.1, "rest_s": 0.25}
HELPS = {
    "rounds": "every peer once in each",
    "slow_every": "rows that take long are measured in every so-many-th round",
    "workers": "processes, or threads",
    "burst": "tasks of a burst",
    "trips": "round trips",
    "map": "items of a map",
    "array_mib": "size of the array",
    "seconds": "a sample has fewer tasks if it would take longer",
    "work_s": "computing for each CPU, in the rows with tasks that compute",
    "rest_s": "how long a pool is watched that does nothing",
}


def main() -> int:
    program = Program("executors", __doc__.splitlines()[0], EXECUTORS, FULL, QUICK, HELPS)
    parser = program.parser()
    chosen = parser.parse_args()
    array_mib = chosen.array_mib or (QUICK if chosen.quick else FULL)["array_mib"]
    return program.run(parser, chosen, {"array": array_mib << 20})


if __name__ == "__main__":
    sys.exit(main())
