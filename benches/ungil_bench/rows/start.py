"""From nothing to a result. ``first.py`` measures it: this process would have imported too much."""

from __future__ import annotations

from ungil_bench.rows.row import Answer, Figure, Request, Row


def start(request: Request) -> Answer:
    raise NotImplementedError("the start is measured in a process that has imported nothing else")


START = Row(
    "start",
    "A fresh interpreter imports the peer, makes a pool, gets the result of a no-op, closes the pool "
    "and makes another one.",
    (
        Figure("import", "import in a fresh interpreter", "s"),
        Figure("first", "first result of a fresh interpreter, after the import", "s"),
        Figure("second", "first result of the second pool in that process", "s"),
    ),
    start,
    process="start",
)
