"""How the cost of ungil's executors grows, beside the stdlib's.

    make bench BENCH=growth
    make bench BENCH=growth ARGS="--quick --rows payload,tasks --json figures.json"

With workers, tasks, the size of arguments and results, submitting threads; with what is sent, and
with how results are collected. Measured as the executors are, see executors.py.
"""

from __future__ import annotations

import sys

from ungil_bench.program import Program
from ungil_bench.rows import GROWTH

FULL = {"rounds": 5, "slow_every": 1, "workers": 2, "burst": 20_000, "seconds": 0.2}
FULL |= {"workers_max": 64, "tasks_max": 1_000_000, "payload_max": 256 << 20}
FULL |= {"submitters_max": 8, "limit_s": 25.0}
QUICK = {"rounds": 2, "slow_every": 1, "workers": 2, "burst": 2_000, "seconds": 0.03}
QUICK |= {"workers_max": 16, "tasks_max": 100_000, "payload_max": 16 << 20}
QUICK |= {"submitters_max": 8, "limit_s": 1.0}
HELPS = {
    "rounds": "every peer once in each",
    "workers": "processes, or threads, where their number is not what grows",
    "burst": "tasks of a burst",
    "seconds": "a sample has fewer tasks if it would take longer",
    "workers_max": "most workers",
    "tasks_max": "most tasks",
    "payload_max": "largest bytes",
    "submitters_max": "most submitting threads",
    "limit_s": "what would take longer is left out",
}
# The stdlib's, with the interpreter's own start method: others are compared in executors.py.
WORDS = ("PoolExecutor",)


def main() -> int:
    program = Program("growth", __doc__.splitlines()[0], GROWTH, FULL, QUICK, HELPS, WORDS)
    parser = program.parser()
    parser.add_argument("--large", action="store_true", help="up to 10 million tasks and 1 GiB too")
    parser.add_argument("--huge", action="store_true", help="bytes of more than 2 GiB too")
    chosen = parser.parse_args()
    more: dict[str, object] = {"is_huge": chosen.huge}
    if chosen.large:
        more |= {"tasks_max": 10_000_000, "payload_max": 1 << 30, "limit_s": 60.0}
    return program.run(parser, chosen, more)


if __name__ == "__main__":
    sys.exit(main())
