"""Engines that run tasks exactly as the stdlib's threads do, for experiments with a known answer.

``TWIN`` is the same in everything but its name. ``SLOWER`` takes a tenth longer for every run.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ungil.engines import Pool, Setup, find
from ungil.engines.stdlib import ExecutorPool


class TwinEngine:
    """The stdlib's engine under another name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def models(self) -> list[str]:
        return ["threads"]

    def open(self, setup: Setup) -> Pool:
        return find("stdlib").open(setup)


class SlowerPool(ExecutorPool):
    """The stdlib's threads, and then a tenth of the time that they took."""

    def run(self, call: Any, items: Sequence[Any]) -> list[Any]:
        started = time.perf_counter()
        results = super().run(call, items)
        end = time.perf_counter() + 0.1 * (time.perf_counter() - started)
        while time.perf_counter() < end:
            pass
        return results


class SlowerEngine(TwinEngine):
    """The stdlib's engine with a planted difference of 10 %."""

    def open(self, setup: Setup) -> Pool:
        from concurrent.futures import ThreadPoolExecutor

        return SlowerPool(setup, ThreadPoolExecutor(setup.workers))


TWIN = TwinEngine("twin_engine:TWIN")
SLOWER = SlowerEngine("twin_engine:SLOWER")
