"""What is written where: the report, the log, the JSON, and nothing else."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import TARGETS, Outcome, Run
from leftovers import Leftovers

OBSERVED = str(TARGETS / "observed.py")
SCHEMA = Path(__file__).parents[1] / "docs" / "compare.schema.json"
MODELS = {"serial", "threads", "processes", "processes_threads"}


@pytest.fixture(scope="module")
def calls_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("calls") / "calls"


@pytest.fixture(scope="module")
def napping(run_ungil: Run, calls_file: Path) -> Outcome:
    """A comparison of all models of a function that sleeps 20 ms."""
    outcome = run_ungil(
        [
            *["compare", f"{OBSERVED}:naps", "--items", "range(8)", "--workers", "2", "--log"],
            *["--rounds", "2", "--budget", "15"],
        ],
        env={"UNGIL_TEST_CALLS": str(calls_file)},
    )
    assert outcome.code == 0, outcome
    return outcome


def test_pipe_gets_no_progress_bar_and_no_escape_codes(napping: Outcome) -> None:
    for text in (napping.stdout, napping.stderr):
        assert "\x1b" not in text
        assert "\r" not in text
        assert "\b" not in text


def test_calls_are_announced_before_the_report(napping: Outcome) -> None:
    announced = napping.comparison["course"]["calls_announced"]
    assert str(announced) in re.sub(r"[,_ ](?=\d{3})", "", napping.stderr)
    assert "naps" in napping.stderr


def test_calls_made_are_counted_right_and_never_exceed_the_announced(
    napping: Outcome, calls_file: Path
) -> None:
    made = len(calls_file.read_text().splitlines())
    course = napping.comparison["course"]
    assert made == course["calls_made"]
    assert made <= course["calls_announced"]
    # Every model ran at least once warm, in two rounds, logged, and once from nothing.
    assert made >= 8 * len(MODELS) * 5


def test_calls_of_coroutines_are_counted_right(run_ungil: Run, tmp_path: Path) -> None:
    outcome = run_ungil(
        [
            *["compare", f"{OBSERVED}:note_one_async", "--items", "range(3)", "--rounds", "2"],
            *["--models", "asyncio,threads", "--budget", "6"],
        ],
        env={"UNGIL_TEST_CALLS": str(tmp_path / "calls")},
    )
    made = len((tmp_path / "calls").read_text().splitlines())
    assert made == outcome.comparison["course"]["calls_made"]
    assert made <= outcome.comparison["course"]["calls_announced"]


def test_report_ends_in_the_two_sentences(napping: Outcome) -> None:
    text = " ".join(napping.stdout.split())
    for verdict in ("once", "repeated"):
        assert napping.comparison[verdict]["sentence"] in text


def test_every_model_has_a_row(napping: Outcome) -> None:
    first_words = {line.split()[0] for line in napping.stdout.splitlines() if line.strip()}
    first_words |= {line.split()[1] for line in napping.stdout.splitlines() if line[:1] == "*"}
    assert {"serial", "threads", "processes", "processes-threads"} <= first_words


def test_every_column_of_the_table_is_measured(napping: Outcome) -> None:
    for model in MODELS:
        measurement = napping.measurement(model)
        assert measurement["time_s"]["value"] > 0.02
        assert measurement["times_faster"]["value"] > 0.5
        assert 0 <= measurement["cpu_cores_used"] < 2
        assert measurement["memory_peak_bytes"] > 1 << 20
        assert measurement["caller_delay"]["ticks"] > 0
        assert measurement["once_time_s"]["value"] > 0.02
        assert len(measurement["round_times_s"]) == 2
        assert measurement["agreement"] == {"state": "equal"}


def test_cold_and_warm_start_are_told_apart(napping: Outcome) -> None:
    for model in MODELS:
        measurement = napping.measurement(model)
        cold, warm = measurement["cold_start"], measurement["warm_start"]
        assert 0 < cold["first_result_s"] < 10
        assert 0 < cold["all_workers_s"] < 10
        if model == "serial":
            assert warm is None
            assert cold["workers"] == 1
        else:
            assert 0 < warm["first_result_s"] < cold["first_result_s"] + 1
            assert cold["workers"] == warm["workers"] == 2
    threads, processes = napping.measurement("threads"), napping.measurement("processes")
    assert threads["cold_start"]["first_result_s"] < processes["cold_start"]["first_result_s"]


def test_threads_share_memory_both_ways_and_processes_do_not(napping: Outcome) -> None:
    for model in MODELS:
        shares = model in ("serial", "threads")
        sharing = {"caller_sees_worker": shares, "worker_sees_caller": shares}
        assert napping.measurement(model)["sharing"] == sharing


def test_caller_waits_through_a_serial_loop_and_not_for_sleeping_threads(napping: Outcome) -> None:
    serial, threads = napping.measurement("serial"), napping.measurement("threads")
    # Eight naps of 20 ms without a turn for the caller; with threads it is free meanwhile.
    assert serial["caller_delay"]["max_s"] > 0.15
    assert threads["caller_delay"]["p50_s"] < 0.02
    assert threads["caller_delay"]["p99_s"] < serial["caller_delay"]["p99_s"]


def test_log_says_who_ran_which_task_when(napping: Outcome) -> None:
    for model in MODELS:
        log = napping.measurement(model)["log"]
        assert sorted(record["task"] for record in log) == list(range(8))
        for record in log:
            assert record["pid"] > 0
            assert record["process"]
            assert record["thread"]
            assert 0 <= record["start_s"] < record["finish_s"] < 60
            assert record["finish_s"] - record["start_s"] > 0.015


def test_log_shows_the_processes_and_threads_of_each_model(napping: Outcome) -> None:
    def seen(model: str, *fields: str) -> set[tuple[Any, ...]]:
        return {
            tuple(each[field] for field in fields) for each in napping.measurement(model)["log"]
        }

    assert seen("serial", "process", "thread") == {("MainProcess", "MainThread")}
    assert len(seen("serial", "pid")) == 1
    assert len(seen("threads", "pid")) == 1
    assert len(seen("threads", "thread")) == 2
    assert seen("threads", "process") == {("MainProcess",)}
    assert len(seen("processes", "pid")) == 2
    assert len(seen("processes", "process")) == 2
    assert len(seen("processes_threads", "pid")) == 2
    assert len(seen("processes_threads", "pid", "thread")) >= 3
    # Each model has a process of its own, that is gone before the others end.
    assert not seen("processes", "pid") & seen("threads", "pid")


def test_log_overlaps_exactly_where_tasks_run_at_once(napping: Outcome) -> None:
    def most_at_once(model: str) -> int:
        log = napping.measurement(model)["log"]
        return max(
            sum(other["start_s"] <= each["start_s"] < other["finish_s"] for other in log)
            for each in log
        )

    assert most_at_once("serial") == 1
    assert most_at_once("threads") == 2
    assert most_at_once("processes") == 2
    assert most_at_once("processes_threads") >= 3


def test_log_is_printed_one_line_a_task(napping: Outcome) -> None:
    lines = napping.stdout.splitlines()
    (heading,) = [line for line in lines if line.split()[:3] == ["pid", "process", "thread"]]
    at = lines.index(heading)
    rows = [line.split() for line in lines[at + 1 : at + 1 + 8 * len(MODELS)]]
    assert all(row[0].isdigit() for row in rows)
    pids = {str(record["pid"]) for record in napping.measurement("processes")["log"]}
    assert pids <= {row[0] for row in rows}


def test_without_log_nothing_is_logged(run_ungil: Run, tmp_path: Path) -> None:
    outcome = run_ungil(
        [
            *["compare", f"{OBSERVED}:note_one", "--items", "[1]", "--models", "serial"],
            *["--rounds", "1", "--budget", "2"],
        ],
        env={"UNGIL_TEST_CALLS": str(tmp_path / "calls")},
    )
    assert outcome.measurement("serial")["log"] == []
    assert "pid" not in outcome.stdout.split()


# JSON.


def test_json_follows_its_schema(napping: Outcome) -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.validators.validator_for(schema).check_schema(schema)
    jsonschema.validate(napping.document, schema)
    assert napping.document is not None
    assert napping.document["schema"] == "ungil.compare/1"


def test_json_of_failures_follows_its_schema(run_ungil: Run) -> None:
    outcome = run_ungil(
        ["compare", f"{TARGETS / 'misbehaving.py'}:raises", "--items", "[1]", "--rounds", "1"]
    )
    assert outcome.code == 6
    jsonschema.validate(outcome.document, json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert outcome.comparison["repeated"] is None


def test_json_on_standard_output_is_alone_there(run_ungil: Run, tmp_path: Path) -> None:
    outcome = run_ungil(
        [
            *["compare", f"{OBSERVED}:note_one", "--items", "[1, 2]", "--models", "threads"],
            *["--rounds", "1", "--budget", "3", "--log", "--json", "-"],
        ],
        env={"UNGIL_TEST_CALLS": str(tmp_path / "calls")},
    )
    document = json.loads(outcome.stdout)
    assert [each["tasks"] for each in document["comparisons"]] == [2]
    # The report for people is not lost.
    assert "This job once" in outcome.stderr


def test_json_file_is_replaced_and_not_appended_to(run_ungil: Run, tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("x" * 100_000)
    run_ungil(
        [
            *["compare", f"{OBSERVED}:note_one", "--items", "[1]", "--models", "serial"],
            *["--rounds", "1", "--budget", "2", "--json", str(path)],
        ],
        env={"UNGIL_TEST_CALLS": str(tmp_path / "calls")},
    )
    assert len(json.loads(path.read_text())["comparisons"]) == 1


def test_refusal_leaves_an_earlier_json_file_alone(run_ungil: Run, tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("earlier")
    arguments = ["compare", f"{OBSERVED}:gone", "--json", str(path)]
    assert run_ungil(arguments).code == 3
    assert path.read_text() == "earlier"


def test_refusal_makes_no_json_file(run_ungil: Run, tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    assert run_ungil(["compare", f"{OBSERVED}:gone", "--json", str(path)]).code == 3
    assert not path.exists()


# The command itself.


def test_version_is_the_packages(run_ungil: Run) -> None:
    import ungil

    assert run_ungil(["--version"]).stdout.split() == ["ungil", ungil.__version__]


def test_console_script_is_the_module(run_ungil: Run) -> None:
    script = Path(sys.executable).with_name("ungil")
    shown = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout == run_ungil(["--version"]).stdout


def test_seed_is_kept_with_the_result(run_ungil: Run, tmp_path: Path) -> None:
    outcome = run_ungil(
        [
            *["compare", f"{OBSERVED}:note_one", "--items", "[1]", "--models", "serial"],
            *["--rounds", "1", "--budget", "2", "--seed", "42"],
        ],
        env={"UNGIL_TEST_CALLS": str(tmp_path / "calls")},
    )
    assert outcome.comparison["course"]["seed"] == 42


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_no_line_is_wider_than_asked(run_ungil: Run, tmp_path: Path, columns: int) -> None:
    (tmp_path / "naps.py").write_text("import time\ndef nap(item): time.sleep(0.001)\n")
    outcome = run_ungil(
        [
            *["compare", "naps.py:nap", "--items", "range(2)", "--models", "threads"],
            *["--rounds", "1", "--budget", "1"],
        ],
        env={"COLUMNS": str(columns)},
        cwd=tmp_path,
    )
    assert max(map(len, outcome.stdout.splitlines())) <= columns, outcome.stdout


# On a terminal.


def on_a_terminal(folder: Path, env: dict[str, str]) -> str:
    """Runs a short comparison with a terminal for output; returns everything written to it."""
    (folder / "tmp").mkdir()
    leftovers = Leftovers(folder / "tmp")
    (folder / "naps.py").write_text("import time\ndef nap(item): time.sleep(0.02)\n")
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(
        [
            *[sys.executable, "-m", "ungil", "compare", "naps.py:nap", "--items", "range(4)"],
            *["--models", "threads", "--rounds", "2", "--budget", "4"],
        ],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        cwd=folder,
        env={**environment, "TERM": "xterm-256color", **leftovers.environment(), **env},
    )
    os.close(theirs)
    written = b""
    try:
        while select.select([ours], [], [], 60)[0]:
            try:
                written += os.read(ours, 1 << 16)
            except OSError:
                # The terminal's other end is closed.
                break
        assert process.wait(60) == 0, written
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        leftovers.check()
    return written.decode()


COLORS = re.compile(r"\x1b\[[\d;]*m")


def test_terminal_gets_a_progress_bar_and_colors(tmp_path: Path) -> None:
    text = on_a_terminal(tmp_path, {})
    assert "of at most 4.00 s" in text
    assert COLORS.search(text)


def test_no_color_is_respected_on_a_terminal(tmp_path: Path) -> None:
    text = on_a_terminal(tmp_path, {"NO_COLOR": "1"})
    assert "This job once" in text
    assert not COLORS.search(text)
