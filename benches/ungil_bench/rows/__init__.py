"""What is measured, one file a kind."""

from __future__ import annotations

from ungil_bench.rows import (
    arrays,
    gain,
    growth,
    memory,
    quota,
    rates,
    rest,
    speed_up,
    start,
    trips,
)
from ungil_bench.rows.row import Row

# The executors beside their peers.
EXECUTORS: tuple[Row, ...] = (
    rates.BURST,
    trips.TRIP,
    trips.BUSY,
    trips.PAUSE,
    rates.MAP,
    gain.GAIN,
    arrays.ARGUMENT,
    arrays.RESULT,
    start.START,
    memory.MEMORY,
    speed_up.SPEED_UP,
    speed_up.SKEWED,
    quota.QUOTA,
    rest.IDLE,
    rest.BLOCKED,
)
# How cost grows.
GROWTH: tuple[Row, ...] = (
    growth.WORKERS,
    growth.TASKS,
    growth.PENDING,
    growth.PAYLOAD,
    growth.SUBMITTERS,
    growth.KINDS,
    growth.COLLECTED,
)


def find(name: str) -> Row:
    return next(row for row in (*EXECUTORS, *GROWTH) if row.name == name)
