"""Worker sweeps: past the knee for work that waits, no further for work that computes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from conftest import Outcome, Run

# Four places: more than four workers wait for one another, wherever they run.
TARGET = """
import threading, time

places = threading.BoundedSemaphore(4)

def waits_at_a_place(item):
    with places:
        time.sleep(0.04)
    return item

def counts(steps):
    while steps > 0:
        steps -= 1
    return steps
"""


def sweep(run_ungil: Run, folder: Path, function: str, items: str, models: str) -> Outcome:
    (folder / "sweeping.py").write_text(TARGET)
    outcome = run_ungil(
        [
            *["compare", "sweeping.py:" + function, "--items", items, "--workers", "1,2,4"],
            *["--models", models, "--rounds", "1", "--budget", "7"],
        ],
        cwd=folder,
    )
    assert outcome.code == 0, outcome
    return outcome


@pytest.fixture(scope="module")
def waiting(run_ungil: Run, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("waiting")
    return sweep(run_ungil, folder, "waits_at_a_place", "range(16)", "threads")


def curve(outcome: Outcome) -> dict[int, float]:
    (found,) = outcome.comparison["sweeps"]
    return {point["workers"]: point["time_s"] for point in found["curve"]}


def test_sweep_of_waiting_work_goes_past_the_knee(waiting: Outcome) -> None:
    (found,) = waiting.comparison["sweeps"]
    assert set(curve(waiting)) >= {1, 2, 4, 8}
    assert found["is_past_the_knee"]
    assert max(curve(waiting)) <= 16


def test_sweep_of_waiting_work_finds_the_knee_that_was_built_in(waiting: Outcome) -> None:
    times = curve(waiting)
    assert times[1] > 1.5 * times[2] > 2 * times[4]
    assert times[4] < 1.3 * times[8]


def test_best_count_is_the_smallest_that_is_as_good_as_any(waiting: Outcome) -> None:
    (found,) = waiting.comparison["sweeps"]
    times = curve(waiting)
    enough = [workers for workers in times if times[workers] <= 1.03 * min(times.values())]
    assert found["best_workers"] == min(enough)
    assert found["best_workers"] >= 4


def test_best_count_and_the_curve_are_shown(waiting: Outcome) -> None:
    (found,) = waiting.comparison["sweeps"]
    shown: list[Any] = [line for line in waiting.stdout.splitlines() if "best" in line.lower()]
    assert any(str(found["best_workers"]) in line for line in shown), waiting.stdout
    for workers in curve(waiting):
        assert any(line.split()[:1] == [str(workers)] for line in waiting.stdout.splitlines())


def test_advice_of_a_sweep_names_the_number_of_workers(waiting: Outcome) -> None:
    chosen = waiting.comparison["measurements"][waiting.comparison["repeated"]["choice"]]
    assert f"{chosen['setup']['workers']} threads" in waiting.comparison["repeated"]["sentence"]


def test_sweep_of_computing_work_keeps_to_the_counts(run_ungil: Run, tmp_path: Path) -> None:
    outcome = sweep(run_ungil, tmp_path, "counts", "[400_000] * 8", "threads,processes")
    for found in outcome.comparison["sweeps"]:
        assert [point["workers"] for point in found["curve"]] == [1, 2, 4]
    assert [found["model"] for found in outcome.comparison["sweeps"]] == ["threads", "processes"]


def test_one_count_is_no_sweep(run_ungil: Run, tmp_path: Path) -> None:
    (tmp_path / "sweeping.py").write_text(TARGET)
    outcome = run_ungil(
        [
            *["compare", "sweeping.py:waits_at_a_place", "--items", "range(4)", "--workers", "2"],
            *["--models", "threads", "--rounds", "1", "--budget", "2"],
        ],
        cwd=tmp_path,
    )
    assert outcome.comparison["sweeps"] == []
    assert outcome.measurement("threads")["setup"]["workers"] == 2


def test_more_workers_than_cpus_are_given_when_asked(run_ungil: Run, tmp_path: Path) -> None:
    count = len(os.sched_getaffinity(0)) + 3
    (tmp_path / "sweeping.py").write_text(TARGET)
    outcome = run_ungil(
        [
            *["compare", "sweeping.py:counts", "--items", "[1000] * 20", "--rounds", "1"],
            *["--workers", str(count), "--models", "processes", "--budget", "3"],
        ],
        cwd=tmp_path,
    )
    assert outcome.measurement("processes")["setup"]["workers"] == count
    assert outcome.measurement("processes")["cold_start"]["workers"] == count
