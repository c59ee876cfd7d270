"""Ctrl-C and sudden death: whoever ends, whenever, nothing is left behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TARGETS, Run, Running, Start
from leftovers import parent_of, wait_until

INTERRUPTIBLE = str(TARGETS / "interruptible.py")
# The end of everything, the slowest machine included; nothing here should take a tenth of it.
SOON_S = 15.0

INTERRUPTED = 130
MODEL_FAILED = 1


@pytest.fixture
def began(tmp_path: Path) -> Path:
    """The file in which tasks say that they have begun."""
    return tmp_path / "began"


@pytest.fixture(params=["ungil", "stdlib"])
def engine(request: pytest.FixtureRequest) -> str:
    """Whose executors run the tasks: ours have a process that forks workers, the stdlib's none."""
    return request.param


@pytest.fixture
def start_comparison(start_ungil: Start, began: Path, engine: str) -> Callable:
    """Starts a comparison of a function of ``interruptible.py`` in a process group of its own."""

    def start(function: str, models: str = "threads,processes", budget: int = 100) -> Start:
        return start_ungil(
            [
                *["compare", f"{INTERRUPTIBLE}:{function}", "--items", "range(4)"],
                *["--workers", "2", "--models", models, "--budget", str(budget)],
                *["--engines", engine],
                *["--rounds", "40" if function == "returns" else "1"],
            ],
            env={"UNGIL_TEST_BEGAN": str(began)},
            process_group=0,
        )

    return start


def wait_for_tasks(began: Path, count: int = 1) -> list[int]:
    """Waits until so many tasks have begun; returns the processes that run them."""

    def lines() -> list[str]:
        return began.read_text().splitlines() if began.exists() else []

    wait_until(lambda: len(lines()) >= count, f"{count} tasks began")
    return [int(line) for line in lines()]


def above(running: Running, pid: int) -> list[int]:
    """A process and what is above it, up to the keeper, which is the last."""
    found = [pid]
    while (parent := parent_of(found[-1])) not in (running.process.pid, None):
        found.append(parent)
    return found


def press_ctrl_c(running: Running) -> None:
    """Sends SIGINT to the foreground process group, as a terminal does."""
    os.killpg(running.process.pid, signal.SIGINT)


@pytest.mark.parametrize(
    ("function", "models"),
    [
        pytest.param("never_returns", "threads", id="serial"),
        pytest.param("spins", "threads", id="serial that computes"),
        pytest.param("never_wakes", "asyncio", id="coroutine"),
        pytest.param("never_returns_in_a_thread", "threads", id="threads"),
        pytest.param("never_returns_in_a_process", "processes", id="processes"),
        pytest.param("never_returns_in_a_process", "processes-threads", id="processes-threads"),
    ],
)
def test_ctrl_c_ends_everything_at_once(
    start_comparison: Callable, began: Path, function: str, models: str
) -> None:
    with start_comparison(function, models=models) as running:
        wait_for_tasks(began)
        pressed_at = time.monotonic()
        press_ctrl_c(running)
        outcome = running.wait(timeout=SOON_S)
    assert outcome.code == INTERRUPTED
    assert time.monotonic() - pressed_at < SOON_S
    assert "Traceback" not in outcome.stderr


def test_ctrl_c_before_any_result_says_so(start_comparison: Callable, began: Path) -> None:
    with start_comparison("never_returns") as running:
        wait_for_tasks(began)
        press_ctrl_c(running)
        outcome = running.wait(timeout=SOON_S)
    assert "interrupted before there was anything to report" in outcome.stderr
    assert outcome.stdout == ""


def test_ctrl_c_while_a_later_model_runs_keeps_the_results(
    start_comparison: Callable, began: Path
) -> None:
    with start_comparison("never_returns_in_a_process") as running:
        wait_for_tasks(began)
        press_ctrl_c(running)
        outcome = running.wait(timeout=SOON_S)
    assert outcome.code == INTERRUPTED
    assert outcome.comparison["course"]["ended"] == "interrupted"
    outcome.assert_kept("serial", "threads")
    assert outcome.failure("processes")["kind"] == "interrupted"


def test_ctrl_c_in_the_rounds_keeps_the_results(start_comparison: Callable, began: Path) -> None:
    with start_comparison("returns", models="threads") as running:
        # Both models have warmed up, three times four tasks each, and the rounds have begun.
        wait_for_tasks(began, count=32)
        press_ctrl_c(running)
        outcome = running.wait(timeout=SOON_S)
    assert outcome.code == INTERRUPTED
    outcome.assert_kept("serial", "threads")


def test_impatient_second_ctrl_c_leaves_nothing_either(
    start_comparison: Callable, began: Path
) -> None:
    with start_comparison("never_returns_in_a_process", models="processes") as running:
        wait_for_tasks(began)
        for _ in range(3):
            press_ctrl_c(running)
        assert running.wait(timeout=SOON_S).code == INTERRUPTED


def test_ctrl_c_during_the_import_ends_it(start_ungil: Start, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import pathlib, time\npathlib.Path('began').touch()\ntime.sleep(3600)\ndef work(): pass\n"
    )
    with start_ungil(["compare", "slow.py:work"], cwd=tmp_path, process_group=0) as running:
        wait_until((tmp_path / "began").exists, "the import began")
        press_ctrl_c(running)
        outcome = running.wait(timeout=SOON_S)
    assert outcome.code == INTERRUPTED
    assert "Traceback" not in outcome.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
@pytest.mark.parametrize("function", ["never_returns", "never_returns_in_a_process"])
def test_death_of_the_command_leaves_nothing(
    start_comparison: Callable, began: Path, function: str, number: signal.Signals
) -> None:
    with start_comparison(function, models="processes") as running:
        wait_for_tasks(began)
        assert len(running.leftovers.processes()) >= 3
        running.process.send_signal(number)
        # That nothing is left is what the fixture checks.
        assert running.wait(timeout=SOON_S).code == -number


def test_death_of_the_host_fails_its_model_alone(start_comparison: Callable, began: Path) -> None:
    with start_comparison("never_returns_in_a_thread") as running:
        host = wait_for_tasks(began)[0]
        os.kill(host, signal.SIGKILL)
        outcome = running.wait()
    assert outcome.code == MODEL_FAILED, outcome
    assert "SIGKILL" in outcome.failure("threads")["message"]
    outcome.assert_kept("serial", "processes")


def test_death_of_the_host_of_processes_ends_its_workers(
    start_comparison: Callable, began: Path
) -> None:
    with start_comparison("never_returns_in_a_process") as running:
        *_, host, _ = above(running, wait_for_tasks(began)[0])
        os.kill(host, signal.SIGKILL)
        outcome = running.wait()
    assert outcome.code == MODEL_FAILED, outcome
    assert "SIGKILL" in outcome.failure("processes")["message"]
    outcome.assert_kept("serial", "threads")


@pytest.mark.parametrize(
    ("function", "failing", "kept"),
    [
        ("never_returns_in_a_thread", "threads", "processes"),
        ("never_returns_in_a_process", "processes", "threads"),
    ],
)
def test_death_of_the_keeper_fails_its_model_alone(
    start_comparison: Callable, began: Path, function: str, failing: str, kept: str
) -> None:
    with start_comparison(function) as running:
        *below, keeper = above(running, wait_for_tasks(began)[0])
        assert below
        os.kill(keeper, signal.SIGKILL)
        # Noticed at once, and not at the end of the budget.
        outcome = running.wait(timeout=SOON_S)
    assert outcome.code == MODEL_FAILED, outcome
    assert "SIGKILL" in outcome.failure(failing)["message"]
    assert outcome.failed() == {failing}
    outcome.assert_kept("serial", kept)


def test_death_of_command_and_keeper_together_leaves_nothing(
    start_comparison: Callable, began: Path
) -> None:
    with start_comparison("never_returns_in_a_process", models="processes") as running:
        keeper = above(running, wait_for_tasks(began)[0])[-1]
        os.kill(keeper, signal.SIGKILL)
        running.process.send_signal(signal.SIGKILL)
        # That nothing is left is what the fixture checks.
        assert running.wait(timeout=SOON_S).code == -signal.SIGKILL


@pytest.mark.parametrize("engine", ["ungil"], indirect=True)
@pytest.mark.parametrize("is_command_killed", [False, True])
def test_death_of_the_process_that_forks_workers_leaves_nothing(
    start_comparison: Callable, began: Path, is_command_killed: bool
) -> None:
    with start_comparison("never_returns_in_a_process", models="processes") as running:
        worker, zygote, host, _ = above(running, wait_for_tasks(began)[0])
        assert "_zygote" in Path(f"/proc/{zygote}/cmdline").read_text()
        assert "_host" in Path(f"/proc/{host}/cmdline").read_text()
        os.kill(zygote, signal.SIGKILL)
        wait_until(lambda: parent_of(worker) != zygote, "its workers had lost it")
        if is_command_killed:
            running.process.kill()
        else:
            press_ctrl_c(running)
        # That nothing is left is what the fixture checks.
        expected = -signal.SIGKILL if is_command_killed else INTERRUPTED
        assert running.wait(timeout=SOON_S).code == expected


def test_death_of_a_worker_fails_its_model_alone(start_comparison: Callable, began: Path) -> None:
    with start_comparison("never_returns_in_a_process") as running:
        # The first task runs in one of them. One of ungil's workers takes no other with it.
        for worker in wait_for_tasks(began, count=2)[:2]:
            os.kill(worker, signal.SIGKILL)
        outcome = running.wait()
    assert outcome.code == MODEL_FAILED, outcome
    assert "worker died" in outcome.failure("processes")["message"]
    outcome.assert_kept("serial", "threads")


SCRIPT = """
import sys
import ungil
sys.path.insert(0, {folder!r})
import interruptible

if __name__ == "__main__":
    interrupts = 0
    for act in [
        lambda: ungil.compare(
            interruptible.{function}, range(4), workers=2, models={models!r}, engines=[{engine!r}]
        ),
        lambda: sum(range(1_000_000)),
    ]:
        try:
            act()
        except KeyboardInterrupt:
            interrupts += 1
    print("interrupts:", interrupts)
"""


@pytest.mark.parametrize(
    ("function", "models", "tasks"),
    [
        pytest.param("never_returns", ["threads"], 1, id="before any result"),
        pytest.param("never_returns_in_a_process", ["processes"], 1, id="while another runs"),
        pytest.param("returns", ["threads"], 32, id="in the rounds"),
    ],
)
def test_ctrl_c_in_a_script_is_exactly_one_keyboard_interrupt(
    start_python: Start,
    tmp_path: Path,
    began: Path,
    engine: str,
    function: str,
    models: list[str],
    tasks: int,
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        SCRIPT.format(folder=str(TARGETS), function=function, models=models, engine=engine)
    )
    environment = {"UNGIL_TEST_BEGAN": str(began)}
    with start_python([script], env=environment, process_group=0) as running:
        wait_for_tasks(began, tasks)
        press_ctrl_c(running)
        outcome = running.wait(timeout=SOON_S)
    assert outcome.code == 0, outcome
    assert outcome.stdout == "interrupts: 1\n"


def test_sigterm_of_a_script_leaves_nothing(
    start_python: Start, tmp_path: Path, began: Path, engine: str
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        SCRIPT.format(
            folder=str(TARGETS),
            function="never_returns_in_a_process",
            models=["processes"],
            engine=engine,
        )
    )
    with start_python([script], env={"UNGIL_TEST_BEGAN": str(began)}) as running:
        wait_for_tasks(began)
        running.process.terminate()
        assert running.wait(timeout=SOON_S).code == -signal.SIGTERM


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_spawned_workers_leave_no_semaphores_and_no_folder(
    run_ungil: Run, tmp_path: Path, method: str, engine: str
) -> None:
    # Only a resource tracker that outlives the others unlinks what spawned workers share, and
    # only the host knows the folder in which its fork server listens.
    (tmp_path / "spawning.py").write_text(
        "import multiprocessing\n"
        f"multiprocessing.set_start_method({method!r}, force=True)\n"
        "def work(item): return item\n"
    )
    outcome = run_ungil(
        [
            *["compare", "spawning.py:work", "--items", "range(2)", "--models", "processes"],
            *["--rounds", "1", "--workers", "1", "--engines", engine],
        ],
        cwd=tmp_path,
    )
    assert outcome.code == 0, outcome


def test_ctrl_c_with_spawned_workers_leaves_no_semaphores(
    start_ungil: Start, tmp_path: Path, began: Path, engine: str
) -> None:
    (tmp_path / "spawning.py").write_text(
        "import multiprocessing, sys\n"
        "multiprocessing.set_start_method('spawn', force=True)\n"
        f"sys.path.insert(0, {str(TARGETS)!r})\n"
        "from interruptible import never_returns_in_a_process\n"
    )
    with start_ungil(
        [
            *["compare", "spawning.py:never_returns_in_a_process", "--items", "range(2)"],
            *["--models", "processes", "--workers", "1", "--budget", "100"],
            *["--engines", engine],
        ],
        cwd=tmp_path,
        env={"UNGIL_TEST_BEGAN": str(began)},
        process_group=0,
    ) as running:
        wait_for_tasks(began)
        press_ctrl_c(running)
        assert running.wait(timeout=SOON_S).code == INTERRUPTED
