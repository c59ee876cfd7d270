"""The benchmarks run and write down every figure, and the page is what the figures give. What the
figures are is not for a test to say."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from conftest import Outcome, Run, Start
from leftovers import Leftovers, wait_until

ROOT = Path(__file__).parent.parent
BENCHES = ROOT / "benches"
EXECUTORS = BENCHES / "executors.py"
GROWTH = BENCHES / "growth.py"
PAGE = BENCHES / "page.py"

# The stdlib's, of which this interpreter has some start methods; what is not installed has no part.
STDLIB = ["--peers", "PoolExecutor,multiprocessing,no executor,bare"]
PROCESSES = {"ungil.ProcessPoolExecutor", "ProcessPoolExecutor", "multiprocessing.Pool"}
THREADS = {"ungil.ThreadPoolExecutor", "ThreadPoolExecutor"}
PLAIN = {"plain processes"}
EVERYBODY = PROCESSES | THREADS
ROUND_TRIPS = EVERYBODY | {"a byte through a pipe and back"}

# The peers of each figure, by the beginning of their names.
EXECUTORS_FIGURES = {
    ("burst", "rate"): EVERYBODY,
    ("trip", "p50"): ROUND_TRIPS,
    ("trip", "p99"): ROUND_TRIPS,
    ("busy", "p50"): ROUND_TRIPS,
    ("busy", "p99"): ROUND_TRIPS,
    ("pause", "parked"): ROUND_TRIPS,
    ("pause", "cold"): ROUND_TRIPS,
    ("map", "rate"): EVERYBODY | {"a loop"},
    ("gain", "task"): PROCESSES,
    ("argument", "time"): PROCESSES | {"one copy"},
    ("argument", "passing"): PROCESSES | {"one copy"},
    ("result", "time"): PROCESSES | {"one copy"},
    ("result", "passing"): PROCESSES | {"one copy"},
    ("start", "import"): EVERYBODY,
    ("start", "first"): EVERYBODY,
    ("start", "second"): EVERYBODY,
    **{
        ("memory", figure): PROCESSES | {"a bare interpreter", "a fork of a bare interpreter"}
        for figure in ("own", "anonymous", "files", "shared")
    },
    ("speed_up", "share"): PROCESSES | PLAIN,
    ("skewed", "excess"): PROCESSES | PLAIN,
    ("idle", "wake_ups"): EVERYBODY,
    ("idle", "cpu"): EVERYBODY,
    ("blocked", "wake_ups"): EVERYBODY,
    ("blocked", "cpu"): EVERYBODY,
}
QUOTA_FIGURES = dict.fromkeys([("quota", name) for name in ("excess", "p50", "p99")], PROCESSES)
WITH_FUTURES = EVERYBODY - {"multiprocessing.Pool"}
GROWTH_FIGURES = {
    ("workers", "start"): WITH_FUTURES,
    ("workers", "rate"): WITH_FUTURES,
    ("tasks", "rate"): WITH_FUTURES,
    ("pending", "memory"): WITH_FUTURES,
    ("pending", "submit"): WITH_FUTURES,
    ("payload", "argument"): WITH_FUTURES - THREADS,
    ("payload", "result"): WITH_FUTURES - THREADS,
    ("submitters", "rate"): WITH_FUTURES,
    ("kinds", "rate"): WITH_FUTURES - THREADS,
    ("collecting", "rate"): WITH_FUTURES,
}
# Nothing at all can be right for these.
MAY_BE_ZERO = {"wake_ups", "cpu", "anonymous", "files", "shared", "memory"}

TINY = ["--quick", "--rounds", "1", "--burst", "30", "--seconds", "0.002", "--workers", "1"]
TINY_EXECUTORS = [*TINY, "--trips", "5", "--map", "100", "--array-mib", "1"]
TINY_EXECUTORS += ["--work-s", "0.01", "--rest-s", "0.02"]
TINY_GROWTH = [*TINY, "--workers-max", "2", "--tasks-max", "100", "--payload-max", "16"]
TINY_GROWTH += ["--submitters-max", "2"]


def measured(run: Run, script: Path, arguments: list[str], folder: Path, **options: Any) -> Outcome:
    """Runs a benchmark, with its JSON."""
    file = folder / "figures.json"
    ran = run([script, *arguments, "--json", file], json=file, **options)
    assert ran.document is not None, ran
    return ran


def check_rows(ran: Outcome, figures: dict[tuple[str, str], set[str]]) -> None:
    """Every figure is there, of everybody who has it, in the JSON and in the table."""
    assert ran.code == 0, ran
    assert "FAILED" not in ran.stdout
    assert ran.document is not None
    rows = {(row["row"], row["figure"]): row for row in ran.document["rows"]}
    if ("quota", "p50") not in rows:
        # Whether a control group can be made is the machine's affair; it is said if not.
        assert ("the row quota" in ran.document["left_out"]) is ("burst" in dict(figures))
        assert "LEFT OUT: the row quota" in ran.stdout or ("quota", "p50") not in figures
        figures = {key: peers for key, peers in figures.items() if key[0] != "quota"}
    assert set(rows) == set(figures)
    for (_, figure), row in rows.items():
        assert row["title"] in ran.stdout
        names = {re.split(r", | \(", line["peer"])[0] for line in row["lines"]}
        assert names == figures[row["row"], figure]
        for line in row["lines"]:
            assert line["failure"] is None
            if line["remark"] is not None:
                assert not line["values"]
                assert line["remark"] in ran.stdout
                continue
            value = line["value"]
            assert value["low"] <= value["median"] <= value["high"]
            assert value["low"] > 0 or (value["low"] == 0 and figure in MAY_BE_ZERO)
            assert line["count"] > 0
            assert line["rounds"] == [0]
            assert len(line["values"]) == 1
            ((before, after),) = line["calibration_s"]
            assert min(before, after) > 0
            assert line["is_ours"] is line["peer"].startswith("ungil")
            if line["is_ours"]:
                assert line["ratio"] is None


def test_executors_are_measured_in_every_row(run_python: Run, tmp_path: Path) -> None:
    ran = measured(run_python, EXECUTORS, [*TINY_EXECUTORS, *STDLIB], tmp_path)
    check_rows(ran, EXECUTORS_FIGURES | QUOTA_FIGURES)


def test_growth_is_measured_in_every_row(run_python: Run, tmp_path: Path) -> None:
    ran = measured(run_python, GROWTH, TINY_GROWTH, tmp_path)
    check_rows(ran, GROWTH_FIGURES)
    assert ran.document is not None
    for row in ran.document["rows"]:
        assert row["axis"] is not None
        assert len({line["point"] for line in row["lines"]}) >= 2 or row["row"] in (
            "tasks",
            "pending",
        )


def test_rows_and_peers_can_be_chosen(run_python: Run, tmp_path: Path) -> None:
    chosen = ["--rows", "trip", "--peers", "multiprocessing", "--seed", "1"]
    ran = measured(run_python, EXECUTORS, [*TINY_EXECUTORS, *chosen], tmp_path)
    assert ran.code == 0, ran
    assert ran.document is not None
    assert ran.document["seed"] == 1
    assert "--seed 1" in ran.document["command"]
    assert [row["figure"] for row in ran.document["rows"]] == ["p50", "p99"]
    for row in ran.document["rows"]:
        names = [line["peer"] for line in row["lines"]]
        ours = ["ungil.ProcessPoolExecutor", "ungil.ThreadPoolExecutor"]
        assert names == [ours[0], "multiprocessing.Pool", ours[1]]


def test_an_unknown_row_is_refused(run_python: Run) -> None:
    ran = run_python([EXECUTORS, "--rows", "burst,elephants"])
    assert ran.code == 2
    assert "no such row: elephants" in ran.stderr


def test_a_size_of_nothing_is_refused(run_python: Run) -> None:
    ran = run_python([EXECUTORS, "--burst", "0"])
    assert ran.code == 2
    assert "--burst must be greater than 0" in ran.stderr


def with_a_loky_that(does: str, folder: Path) -> dict[str, str]:
    """The environment in which `import loky` runs this source."""
    (folder / "loky.py").write_text(does, encoding="utf-8")
    metadata = folder / "loky-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: loky\nVersion: 1.0\n")
    return {"PYTHONPATH": str(folder)}


LOKY = ["--rows", "trip", "--peers", "loky"]


def test_a_peer_that_cannot_be_imported_is_left_out_loudly(run_python: Run, tmp_path: Path) -> None:
    environment = with_a_loky_that("raise ImportError('it is broken')", tmp_path)
    arguments = [*TINY_EXECUTORS, *LOKY]
    ran = measured(run_python, EXECUTORS, arguments, tmp_path, env=environment)
    assert ran.code == 0, ran
    assert ran.document is not None
    assert ran.document["left_out"]["loky"] == "ImportError: it is broken"
    for stream in (ran.stdout, ran.stderr):
        assert "LEFT OUT: loky: ImportError: it is broken" in stream
    assert "loky" not in {line["base"] for row in ran.document["rows"] for line in row["lines"]}


def test_a_peer_that_fails_leaves_the_others_their_figures(run_python: Run, tmp_path: Path) -> None:
    source = "def get_reusable_executor(**_):\n    raise OSError('no room\\nat all')"
    environment = with_a_loky_that(source, tmp_path)
    arguments = [*TINY_EXECUTORS, *LOKY, "--rounds", "2"]
    ran = measured(run_python, EXECUTORS, arguments, tmp_path, env=environment)
    assert ran.code == 3, ran
    assert "FAILED: OSError: no room" in ran.stdout
    assert ran.document is not None
    assert ran.document["versions"]["loky"] == "1.0"
    for row in ran.document["rows"]:
        by_name = {line["base"]: line for line in row["lines"]}
        assert by_name["loky"]["failure"] == "OSError: no room"
        assert by_name["loky"]["values"] == []
        assert len(by_name["ungil.ProcessPoolExecutor"]["values"]) == 2


def test_a_peer_whose_process_dies_leaves_the_others_their_figures(
    run_python: Run, tmp_path: Path
) -> None:
    source = "import os\ndef get_reusable_executor(**_):\n    os._exit(7)"
    environment = with_a_loky_that(source, tmp_path)
    arguments = [*TINY_EXECUTORS, *LOKY]
    ran = measured(run_python, EXECUTORS, arguments, tmp_path, env=environment)
    assert ran.code == 3, ran
    assert "FAILED: its process has ended" in ran.stdout


@pytest.fixture
def bench_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHES))


FOREVER = {"workers": 2, "rest_s": 86_400.0}


@pytest.mark.usefixtures("bench_modules")
def test_a_peer_that_is_stuck_is_ended_with_all_that_it_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from ungil_bench.process import Failed, PeerProcess

    leftovers = Leftovers(tmp_path)
    for name, value in leftovers.environment().items():
        monkeypatch.setenv(name, value)
    process = PeerProcess(["serve", "ungil.ProcessPoolExecutor"])
    try:
        with pytest.raises(Failed, match="no figures after 0 s"):
            process.ask({"row": "blocked", "way": "call", "sizes": FOREVER, "point": None}, 0.0)
        # The keeper, the process that measures, the zygote and a worker.
        wait_until(lambda: len(leftovers.processes()) >= 4, "a worker runs")
    finally:
        process.close(is_forced=True)
    assert leftovers.processes() == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_outlives_a_benchmark_that_is_ended(
    start_python: Start, how: signal.Signals
) -> None:
    arguments = [*TINY_EXECUTORS, "--rows", "blocked", "--peers", "multiprocessing"]
    # With this seed the threads, which have no processes to wait for, are not the first.
    arguments += ["--rest-s", "86400", "--workers", "2", "--seed", "1"]
    with start_python([EXECUTORS, *arguments]) as running:
        # The benchmark, the keeper, the process that measures, and one that only a pool starts.
        wait_until(lambda: len(running.leftovers.processes()) >= 4, "a pool runs")
        os.kill(running.process.pid, how)
        ran = running.wait()
    assert ran.code != 0


@pytest.mark.usefixtures("bench_modules")
def test_a_median_has_an_interval_of_known_probability() -> None:
    from ungil_bench.rounds import median

    # Of 9 samples the second and the second but last: 1 - 2 * (1 + 9) / 2**9.
    nine = median([5.0, 1.0, 9.0, 3.0, 7.0, 2.0, 8.0, 4.0, 6.0])
    assert (nine.median, nine.low, nine.high) == (5.0, 2.0, 8.0)
    assert nine.coverage == pytest.approx(1 - 20 / 512)
    # Of 3 the whole range, which is not enough for 0.95.
    three = median([3.0, 1.0, 2.0])
    assert (three.median, three.low, three.high) == (2.0, 1.0, 3.0)
    assert three.coverage == pytest.approx(0.75)


@pytest.mark.usefixtures("bench_modules")
@pytest.mark.parametrize(
    ("items", "workers", "least"),
    [([1, 1, 1, 1], 2, 2), ([5, 1, 1], 2, 5), ([3, 3, 3], 2, 6), ([4], 3, 4)],
)
def test_no_schedule_is_below_the_least_time(items: list[int], workers: int, least: float) -> None:
    from ungil_bench.peers.bare import shares
    from ungil_bench.rows.speed_up import least_time

    assert least_time(items, workers) == least
    # The largest first reaches it with these.
    dealt = shares(items, workers)
    assert max(map(sum, dealt)) == least
    assert sorted(item for share in dealt for item in share) == sorted(items)


@pytest.mark.usefixtures("bench_modules")
@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0123456, "s", "12.3 ms"),
        (4e-7, "s", "400 ns"),
        (1.5e6, "tasks/s", "1.5 M/s"),
        (3 << 20, "B", "3 MiB"),
        (0.0, "s", "0 s"),
        (0.0, "/s", "0 /s"),
        (0.98, "1", "0.98"),
    ],
)
def test_amounts_have_three_digits_and_a_unit_that_suits(
    value: float, unit: str, text: str
) -> None:
    from ungil_bench.amounts import amount

    assert amount(value, unit) == text


# Folders with JSON and the page that it gives: an example, and the project's own when it is there.
PAGES = [Path(__file__).parent / "benchmarks"]
OWN_PAGE = ROOT / "docs" / "benchmarks"
if OWN_PAGE.exists():
    PAGES.append(OWN_PAGE)


@pytest.mark.parametrize("folder", PAGES, ids=lambda folder: folder.parent.name)
def test_the_page_is_what_its_figures_give(run_python: Run, tmp_path: Path, folder: Path) -> None:
    for file in folder.glob("*.json"):
        shutil.copy(file, tmp_path)
    ran = run_python([PAGE, "--no-plots", tmp_path])
    assert ran.code == 0, ran
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert page == (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("bench_modules")
@pytest.mark.parametrize("folder", PAGES, ids=lambda folder: folder.parent.name)
def test_the_page_shows_every_picture_and_no_other(folder: Path) -> None:
    from ungil_bench.page import documents, plots

    page = (folder / "README.md").read_text(encoding="utf-8")
    names = [plot.file for plot in plots(documents(folder))]
    assert re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page) == names
    assert len(set(names)) == len(names) > 0


@pytest.mark.usefixtures("bench_modules")
def test_pictures_that_are_kept_are_those_of_the_figures() -> None:
    from ungil_bench.page import documents, plots

    for folder in PAGES:
        kept = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.svg")}
        expected = {plot.file: plot.digest for plot in plots(documents(folder))}
        # The example has no pictures: they need matplotlib, and say nothing that its page does not.
        assert set(kept) == (set() if folder is PAGES[0] else set(expected))
        for name, text in kept.items():
            assert expected[name] in text


@pytest.mark.usefixtures("bench_modules")
def test_a_picture_has_every_median_with_its_interval() -> None:
    from ungil_bench.page import documents
    from ungil_bench.plots import plot

    shapes = set()
    for document in documents(PAGES[0]):
        for row in document["rows"]:
            picture = plot(document["bench"], row)
            assert picture is not None
            shapes.add(picture.shape)
            marks = [
                (series.name, mark.median, mark.low, mark.high)
                for series in picture.series
                for mark in series.marks
            ]
            lines = [line for line in row["lines"] if line["value"]]
            assert sorted(marks) == sorted(
                (line["peer"], *(line["value"][key] for key in ("median", "low", "high")))
                for line in lines
            )
            # Zero has no place on a logarithmic axis.
            assert picture.is_linear or min(low for _, _, low, _ in marks) > 0
            changed = json.loads(json.dumps(row))
            next(line for line in changed["lines"] if line["value"])["value"]["high"] *= 2
            other = plot(document["bench"], changed)
            assert other is not None
            assert (other.digest == picture.digest) is (marks[0][3] == 0)
    assert shapes == {"ranking", "panels", "curves", "groups"}


@pytest.mark.usefixtures("bench_modules")
def test_a_goal_says_yes_no_or_not_measured() -> None:
    from ungil_bench.goals import GOALS, Figures
    from ungil_bench.page import documents

    (executors,) = [each for each in documents(PAGES[0]) if each["bench"] == "executors"]
    reached = {goal.work: goal.reached(Figures(executors)) for goal in GOALS}
    answers = {each.is_reached if each is not None else None for each in reached.values()}
    assert answers == {True, False, None}
    nothing = Figures({**executors, "rows": []})
    assert {goal.reached(nothing) for goal in GOALS} == {None}


def test_a_page_of_nothing_is_refused(run_python: Run, tmp_path: Path) -> None:
    ran = run_python([PAGE, "--no-plots", tmp_path])
    assert ran.code == 2
    assert "has no executors.json and no growth.json" in ran.stderr


def test_a_page_of_another_format_is_refused(run_python: Run, tmp_path: Path) -> None:
    (tmp_path / "executors.json").write_text('{"format": 1}')
    ran = run_python([PAGE, "--no-plots", tmp_path])
    assert ran.code == 2
    assert "has format 1, and this reads" in ran.stderr
    assert not (tmp_path / "README.md").exists()
