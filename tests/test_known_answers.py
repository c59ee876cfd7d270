"""Known answers, found by measurement: what a function is called does not matter."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from conftest import TARGETS, Outcome, Run

# Seconds of one comparison; doubled, some times at most, when the tool itself says that nothing is
# decided or that something disturbed it, or when the machine has not got its CPUs to itself.
BUDGETS_S = (6, 12, 24, 24)
USABLE_CPUS = len(os.sched_getaffinity(0))
# Two virtual CPUs that share a core with a busy neighbour do less than this much work together.
CAPACITY_OF_TWO_CPUS = 1.5


def capacity() -> float:
    """How much more work two processes do at once than one, here and now."""

    def elapsed_s(processes: int) -> float:
        began = time.perf_counter()
        children = []
        for _ in range(processes):
            child = os.fork()
            if child == 0:
                left = 2_000_000
                while left:
                    left -= 1
                os._exit(0)
            children.append(child)
        for child in children:
            os.waitpid(child, 0)
        return time.perf_counter() - began

    return min(2 * elapsed_s(1) / elapsed_s(2) for _ in range(3))


@pytest.fixture(scope="module")
def steps() -> int:
    """Steps of a countdown of about 40 ms on this machine."""
    best_s = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        left = 200_000
        while left > 0:
            left -= 1
        best_s = min(best_s, time.perf_counter() - began)
    return int(200_000 * 0.04 / best_s)


def decide(run_ungil: Run, target: Path, function: str, items: str, expected: str) -> Outcome:
    """Compares until the tool has decided how a function is run repeatedly.

    An unexpected answer counts unless the tool itself says that something disturbed it, or the
    machine turns out not to do the work of two CPUs at the moment. Processes with threads are left
    out: on few CPUs they are processes under another name.
    """
    models = "asyncio,threads,processes" if "async" in function or "matrix" in function else ""
    command = ["compare", f"{target}:{function}", "--items", items]
    command += ["--models", models or "threads,processes"]
    for budget_s in BUDGETS_S:
        outcome = run_ungil([*command, "--budget", str(budget_s)])
        assert outcome.code == 0, outcome
        is_decided = outcome.comparison["repeated"]["certainty"] != "undecided"
        is_disturbed = any(note["kind"] == "disturbed" for note in outcome.comparison["notes"])
        if is_decided and choice(outcome) == expected:
            break
        if is_decided and not is_disturbed and capacity() > CAPACITY_OF_TWO_CPUS:
            break
    return outcome


def choice(outcome: Outcome) -> str:
    """The model that is named for a job that runs repeatedly."""
    chosen = outcome.comparison["repeated"]["choice"]
    return outcome.comparison["measurements"][chosen]["setup"]["model"]


def wording(outcome: Outcome) -> str:
    return outcome.comparison["repeated"]["sentence"]


@pytest.mark.parametrize("named", ["known.py:countdown", "misleading.py:sleep"])
def test_counting_in_python_fits_processes(run_ungil: Run, steps: int, named: str) -> None:
    file, _, function = named.partition(":")
    expected = "processes" if USABLE_CPUS > 1 else "serial"
    outcome = decide(run_ungil, TARGETS / file, function, f"[{steps}] * 4", expected)
    assert choice(outcome) == expected, wording(outcome)
    if USABLE_CPUS > 1:
        assert "threads took turns" in wording(outcome)


@pytest.mark.parametrize("named", ["known.py:sleep", "misleading.py:countdown"])
def test_sleeping_fits_threads(run_ungil: Run, named: str) -> None:
    file, _, function = named.partition(":")
    outcome = decide(run_ungil, TARGETS / file, function, "[0.04] * 8", "threads")
    assert choice(outcome) == "threads", wording(outcome)
    assert "waited" in wording(outcome)


@pytest.mark.parametrize("named", ["known.py:hash_blocks", "misleading.py:io_bound"])
def test_hashing_large_blocks_fits_threads(run_ungil: Run, named: str) -> None:
    file, _, function = named.partition(":")
    expected = "threads" if USABLE_CPUS > 1 else "serial"
    outcome = decide(run_ungil, TARGETS / file, function, "[4] * 8", expected)
    assert choice(outcome) == expected, wording(outcome)
    if outcome.measurement("threads")["cpu_cores_used"] > 1.5:
        assert "does not wait for the GIL" in wording(outcome)


@pytest.mark.parametrize("named", ["known.py:increment", "misleading.py:train_model"])
def test_a_microsecond_fits_a_serial_loop(run_ungil: Run, named: str) -> None:
    file, _, function = named.partition(":")
    outcome = decide(run_ungil, TARGETS / file, function, "range(1000)", "serial")
    assert choice(outcome) == "serial", wording(outcome)


@pytest.mark.parametrize("named", ["known.py:async_sleep", "misleading.py:compute_matrix"])
def test_sleeping_coroutines_fit_asyncio(run_ungil: Run, named: str) -> None:
    file, _, function = named.partition(":")
    outcome = decide(run_ungil, TARGETS / file, function, "[0.04] * 8", "asyncio")
    assert choice(outcome) == "asyncio", wording(outcome)
    assert "one event loop" in wording(outcome)
