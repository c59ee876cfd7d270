"""Bursts of tasks, and maps: how many no-ops a second."""

from __future__ import annotations

from ungil_bench import work
from ungil_bench.rows.row import Answer, Figure, Request, Row, opened, rate


def _rate(request: Request, count: int) -> Answer:
    with opened(request.peer, request.sizes["workers"]):
        return rate(
            lambda some: request.run(work.nothing, range(some)), count, request.sizes["seconds"]
        )


def burst(request: Request) -> Answer:
    return _rate(request, request.sizes["burst"])


def map_(request: Request) -> Answer:
    return _rate(request, request.sizes["map"])


BURST = Row(
    "burst",
    "Each call is a task of its own; all are begun, then all results are taken. A peer that is too "
    "slow for so many in the time given gets fewer, and rates are compared.",
    (Figure("rate", "burst of {burst} no-ops, one task each", "tasks/s", is_rate=True),),
    burst,
    ways="burst_ways",
)
MAP = Row(
    "map",
    "One function for many items, as the peer cuts them up by itself, and in chunks of a quarter of "
    "a worker's share where its documentation recommends large ones.",
    (Figure("rate", "map of {map} no-ops", "tasks/s", is_rate=True),),
    map_,
    ways="map_ways",
)
