"""The benchmarks run and write down every figure. What the figures are is not for a test to say."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import Run

ROOT = Path(__file__).parent.parent
EXECUTORS = ROOT / "benches" / "executors.py"

PROCESSES = {"ungil.ProcessPoolExecutor", "multiprocessing.Pool"}
THREADS = {"ungil.ThreadPoolExecutor", "ThreadPoolExecutor"}

# The peers of each figure, by the beginning of their names.
FIGURES = {
    ("burst", "rate"): PROCESSES | THREADS,
    ("trip", "p50"): PROCESSES | THREADS,
    ("trip", "p99"): PROCESSES | THREADS,
    ("pause", "p50"): PROCESSES | THREADS,
    ("map", "rate"): PROCESSES | THREADS | {"a loop"},
    ("argument", "time"): PROCESSES | {"one copy"},
    ("result", "time"): PROCESSES | {"one copy"},
    ("start", "import"): PROCESSES | THREADS,
    ("start", "first"): PROCESSES | THREADS,
    ("start", "second"): PROCESSES | THREADS,
}

TINY = ["--quick", "--rounds", "1", "--burst", "30", "--trips", "5", "--map", "100"]
TINY += ["--array-mib", "1", "--seconds", "0.01", "--workers", "1"]


def test_executors_are_measured_in_every_row(run_python: Run, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    ran = run_python([EXECUTORS, *TINY, "--json", file])
    assert ran.code == 0, ran
    assert "FAILED" not in ran.stdout
    document = json.loads(file.read_text(encoding="utf-8"))
    rows = {(row["row"], row["figure"]): row for row in document["rows"]}
    assert set(rows) == set(FIGURES)
    for key, peers in FIGURES.items():
        row = rows[key]
        assert row["title"] in ran.stdout
        names = {line["peer"].partition(",")[0] for line in row["lines"]}
        # Whichever start methods this interpreter has, there is one at least.
        expected = peers | ({"ProcessPoolExecutor"} if peers >= PROCESSES else set())
        assert names == expected
        for line in row["lines"]:
            assert line["failure"] is None
            assert line["value"]["low"] <= line["value"]["median"] <= line["value"]["high"]
            assert line["value"]["low"] > 0
            is_ours = line["peer"].startswith("ungil")
            assert (line["ratio"] is None) is is_ours
            (sample,) = line["samples"]
            assert sample["count"] == line["count"] > 0
            assert min(sample["calibration_s"]) > 0


def test_rows_and_peers_can_be_chosen(run_python: Run, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    chosen = ["--rows", "trip", "--peers", "multiprocessing"]
    ran = run_python([EXECUTORS, *TINY, *chosen, "--seed", "1", "--json", file])
    assert ran.code == 0, ran
    document = json.loads(file.read_text(encoding="utf-8"))
    assert document["seed"] == 1
    assert [row["figure"] for row in document["rows"]] == ["p50", "p99"]
    for row in document["rows"]:
        names = [line["peer"] for line in row["lines"]]
        assert names == ["ungil.ProcessPoolExecutor", "multiprocessing.Pool", *sorted(THREADS)[1:]]


def test_an_unknown_row_is_refused(run_python: Run) -> None:
    ran = run_python([EXECUTORS, "--rows", "burst,elephants"])
    assert ran.code == 2
    assert "no such row: elephants" in ran.stderr
