"""Measures the first result of this interpreter. Nothing may be imported here that a peer needs."""

from __future__ import annotations

import time

from ungil_bench import peers, work

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any


def start(name: str, workers: int) -> dict[str, Any]:
    """How long it takes from nothing to a result, and the second time."""
    peer = peers.find(name)
    times = [time.perf_counter()]
    peer.load()
    times.append(time.perf_counter())
    peer.open(workers)
    peer.call(work.nothing)
    times.append(time.perf_counter())
    peer.close()
    again = time.perf_counter()
    peer.open(workers)
    peer.call(work.nothing)
    second = time.perf_counter() - again
    peer.close()
    figures = {"import": times[1] - times[0], "first": times[2] - times[1], "second": second}
    return {"count": 1, "figures": figures}
