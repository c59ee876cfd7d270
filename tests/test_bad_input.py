"""Every bad input: a message that names what to change, a documented exit code, no traceback."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TARGETS, Outcome, Run

MISBEHAVING = str(TARGETS / "misbehaving.py")

# The exit codes that `ungil compare --help` documents.
SUCCESS = 0
MODEL_FAILED = 1
USAGE = 2
TARGET = 3
ITEMS = 4
RESULTS_DIFFER = 5
NOTHING_FINISHED = 6
MEMOISED = 7
UNWRITTEN = 8


def test_help_documents_every_exit_code_that_is_tested_here(run_ungil: Run) -> None:
    text = run_ungil(["compare", "--help"]).stdout
    documented = {
        int(code): meaning for code, meaning in re.findall(r"^  (\d+) +(\S.*)$", text, re.MULTILINE)
    }
    assert set(documented) == {0, 1, 2, 3, 4, 5, 6, 7, 8, 70, 130}
    assert "command line is wrong" in documented[USAGE]
    assert "found, imported or called" in documented[TARGET]
    assert "items or the arguments" in documented[ITEMS]
    assert "no model finished" in documented[NOTHING_FINISHED]


def refused(outcome: Outcome, code: int, *words: str) -> None:
    """Asserts a refusal: one sentence of ungil's that has these words, and nothing else."""
    assert outcome.code == code, outcome
    assert outcome.stdout == ""
    for word in words:
        assert word in outcome.stderr, outcome.stderr
    assert "Traceback" not in outcome.stderr.partition("ungil: ")[2]


# The function that is named.


@pytest.mark.parametrize(
    ("target", "words"),
    [
        pytest.param("gone.py:work", ["there is no file gone.py"], id="missing file"),
        pytest.param("folder:work", ["folder is a folder", "name a file"], id="folder"),
        pytest.param("notes.txt:work", ["not a Python file", ".py"], id="not a Python file"),
        pytest.param("no_such_module:work", ["no module no_such_module"], id="missing module"),
        pytest.param("no.such.module:work", ["no module no"], id="missing package"),
        pytest.param("os.nothing:work", ["os.nothing"], id="missing submodule"),
        pytest.param("tasks.py", ["names no function", "tasks.py:work"], id="no function named"),
        pytest.param("tasks.py:", ["names no function"], id="empty function"),
        pytest.param(":resize", ["names no function"], id="empty module"),
        pytest.param("tasks.py:resise", ["has no resise", "did you mean resize?"], id="misspelt"),
        pytest.param("tasks.py:qqq", ["has no qqq", "it has resize, each"], id="missing function"),
        pytest.param("tasks.py:Shop.ordr", ["has no ordr", "order?"], id="missing method"),
        pytest.param("empty.py:work", ["has no work", "defines no function"], id="empty file"),
        pytest.param("tasks.py:SIZES", ["SIZES", "cannot be called"], id="not callable"),
        pytest.param("tasks.py:each", ["generator function", "list("], id="generator function"),
        pytest.param("tasks.py:stream", ["generator function"], id="async generator function"),
        pytest.param("broken.py:work", ["SyntaxError", "broken.py"], id="syntax error"),
        pytest.param("binary.py:work", ["binary.py"], id="null bytes"),
        pytest.param("raising.py:work", ["ZeroDivisionError", "raising.py:2"], id="import raises"),
        pytest.param(
            "exiting.py:work", ["sys.exit()", "if __name__ == '__main__'"], id="import exits"
        ),
        pytest.param("leaving.py:work", ["os._exit()", "exit code 3"], id="import ends process"),
        pytest.param("killing.py:work", ["SIGKILL"], id="import kills process"),
        pytest.param("missing.py:work", ["no_such_dependency"], id="import needs what is missing"),
        pytest.param("package/relative.py:work", ["package.module"], id="relative import"),
        pytest.param("queue.py:work", ["queue", "rename it"], id="named like the stdlib"),
        pytest.param("two.dots.py:work", ["dot", "rename it"], id="dot in the name"),
    ],
)
def test_wrong_target_says_what_to_change(
    run_ungil: Run, wrong_targets: Path, target: str, words: list[str]
) -> None:
    refused(run_ungil(["compare", target], cwd=wrong_targets), TARGET, *words)


@pytest.fixture(scope="module")
def wrong_targets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("targets")
    files = {
        "tasks.py": (
            "SIZES = [1, 2]\n"
            "def resize(item=0): return item\n"
            "def each(item=0): yield item\n"
            "async def stream(item=0): yield item\n"
            "class Shop:\n"
            "    def order(self): return 1\n"
        ),
        "empty.py": "",
        "notes.txt": "def work(): pass\n",
        "broken.py": "def work(:\n    pass\n",
        "raising.py": "limit = 0\nshare = 1 / limit\ndef work(): pass\n",
        "exiting.py": "import sys\ndef work(): pass\nsys.exit(1)\n",
        "leaving.py": "import os\ndef work(): pass\nos._exit(3)\n",
        "killing.py": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n",
        "missing.py": "import no_such_dependency\ndef work(): pass\n",
        "package/__init__.py": "",
        "package/relative.py": "from . import other\ndef work(): pass\n",
        "queue.py": "def work(): pass\n",
        "two.dots.py": "def work(): pass\n",
        "folder/empty.txt": "",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (folder / "binary.py").write_bytes(b"work = 1\0\n")
    return folder


def test_traceback_of_a_failing_import_is_the_users_alone(
    run_ungil: Run, wrong_targets: Path
) -> None:
    stderr = run_ungil(["compare", "raising.py:work"], cwd=wrong_targets).stderr
    assert re.findall(r'File "(.*)", line', stderr) == [str(wrong_targets / "raising.py")]
    assert "share = 1 / limit" in stderr


def test_import_that_never_ends_is_ended_by_the_budget(run_ungil: Run, tmp_path: Path) -> None:
    (tmp_path / "hanging.py").write_text("while True: pass\ndef work(): pass\n")
    outcome = run_ungil(["compare", "hanging.py:work", "--budget", "1"], cwd=tmp_path)
    refused(outcome, NOTHING_FINISHED, "hanging.py", "import")


def test_import_may_print_and_read_standard_input(run_ungil: Run, tmp_path: Path) -> None:
    (tmp_path / "chatty.py").write_text(
        "import sys\nprint('hello')\nsys.stdin.read()\ndef work(): pass\n"
    )
    outcome = run_ungil(["compare", "chatty.py:work", "--models", "serial"], cwd=tmp_path)
    assert outcome.code == SUCCESS, outcome
    assert "hello" not in outcome.stdout.splitlines()


def test_neighbour_named_like_the_stdlib_is_named(run_ungil: Run, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text("def work(): pass\n")
    (tmp_path / "statistics.py").write_text("")
    outcome = run_ungil(
        ["compare", "tasks.py:work", "--models", "threads", "--rounds", "1"], cwd=tmp_path
    )
    assert outcome.code == SUCCESS, outcome
    assert "statistics.py" in " ".join(outcome.notes("job"))


def test_neighbour_that_breaks_the_executors_is_blamed(run_ungil: Run, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text("def work(): pass\n")
    (tmp_path / "queue.py").write_text("")
    outcome = run_ungil(["compare", "tasks.py:work", "--rounds", "1"], cwd=tmp_path)
    assert outcome.code in (SUCCESS, MODEL_FAILED), outcome
    outcome.assert_kept("serial")
    assert "queue.py" in " ".join(outcome.notes("job"))
    for model in outcome.failed():
        assert "rename" in outcome.failure(model)["message"] + " ".join(outcome.notes("job"))


# The items and the arguments.


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--items", "3"], ["not iterable", "range(3)"], id="a number"),
        pytest.param(["--items", "None"], ["None", "not iterable"], id="None"),
        pytest.param(["--items", "[]"], ["no items"], id="empty"),
        pytest.param(["--items", "'abc'"], ["one task a character", "['abc']"], id="a text"),
        pytest.param(["--items", "b'abc'"], ["one task a character"], id="bytes"),
        pytest.param(["--items", "urls.txt"], ["no such file", "urls.txt"], id="missing file"),
        pytest.param(["--items", "./urls"], ["no such file"], id="missing path"),
        pytest.param(["--items", "range(3"], ["range(3", "no Python expression"], id="syntax"),
        pytest.param(["--items", "import os"], ["no Python expression"], id="a statement"),
        pytest.param(["--items", ""], ["--items"], id="nothing"),
        pytest.param(["--items", "sizes"], ["NameError", "function's module"], id="unknown name"),
        pytest.param(["--items", "[true]"], ["Python writes True"], id="JSON's names"),
        pytest.param(["--items", "[1/0]"], ["ZeroDivisionError"], id="expression raises"),
        pytest.param(
            ["--items", "(1/0 for _ in [1])"], ["ZeroDivisionError"], id="iterator raises"
        ),
        pytest.param(["--items", "exit()"], ["SystemExit"], id="expression exits"),
        pytest.param(["--items", "latin1.txt"], ["latin1.txt", "text"], id="file not UTF-8"),
        pytest.param(["--items", "blank.txt"], ["no items"], id="file of blank lines"),
        pytest.param(
            ["--items", "[(1, 2)]", "--args", "[1, 2]"], ["harmless(item"], id="many args"
        ),
        pytest.param(["--args", "[1"], ["--args", "no Python expression"], id="args syntax"),
        pytest.param(["--args", "7"], ["--args must be a list"], id="args a number"),
        pytest.param(["--args", "'ab'"], ["--args must be a list"], id="args a text"),
        pytest.param(["--args", "{}"], ["--args must be a list"], id="args a dict"),
        pytest.param(["--args", "nope"], ["--args", "NameError"], id="args unknown name"),
        pytest.param(["--args", "[1, 2, 3]"], ["too many positional"], id="args too many"),
        pytest.param(["--kwargs", "{"], ["--kwargs", "no Python expression"], id="kwargs syntax"),
        pytest.param(["--kwargs", "[1]"], ["--kwargs must be a dict"], id="kwargs a list"),
        pytest.param(["--kwargs", "{1: 2}"], ["--kwargs must be a dict"], id="kwargs no names"),
        pytest.param(["--kwargs", "{'size': 3}"], ["size"], id="kwargs unknown"),
        pytest.param([], ["missing", "--items"], id="nothing given"),
    ],
)
def test_wrong_items_or_arguments_say_what_to_change(
    run_ungil: Run, wrong_items: Path, arguments: list[str], words: list[str]
) -> None:
    outcome = run_ungil(["compare", f"{MISBEHAVING}:harmless", *arguments], cwd=wrong_items)
    refused(outcome, ITEMS, *words)


@pytest.fixture(scope="module")
def wrong_items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("items")
    (folder / "latin1.txt").write_bytes("Zürich\n".encode("latin-1"))
    (folder / "blank.txt").write_text("\n   \n\n")
    return folder


def test_infinite_items_are_refused(run_ungil: Run) -> None:
    outcome = run_ungil(["compare", f"{MISBEHAVING}:harmless", "--items", "endless"])
    refused(outcome, ITEMS, "more than", "give fewer")


def test_items_that_never_come_are_ended_by_the_budget(run_ungil: Run) -> None:
    items = "iter(lambda: spins(0), 1)"
    outcome = run_ungil(["compare", f"{MISBEHAVING}:harmless", "--items", items, "--budget", "1"])
    refused(outcome, NOTHING_FINISHED, "items")


def test_standard_input_that_is_no_text_is_refused_as_items(start_ungil: Callable) -> None:
    arguments = ["compare", f"{MISBEHAVING}:harmless", "--items", "-"]
    read_end, write_end = os.pipe()
    os.write(write_end, b"Z\xfcrich\n")
    os.close(write_end)
    with start_ungil(arguments, stdin=read_end) as running:
        os.close(read_end)
        refused(running.wait(), ITEMS, "--items -", "UTF-8")


def test_empty_standard_input_is_refused(run_ungil: Run) -> None:
    outcome = run_ungil(["compare", f"{MISBEHAVING}:harmless", "--items", "-"], stdin="\n")
    refused(outcome, ITEMS, "no items")


# The options.


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--workers", "0"], ["--workers", "at least 1"], id="no workers"),
        pytest.param(["--workers", "many"], ["--workers", "many", "such as 4"], id="many workers"),
        pytest.param(["--workers", "-2"], ["--workers"], id="negative workers"),
        pytest.param(["--workers", "2,,4"], ["--workers"], id="gap in workers"),
        pytest.param(["--workers", "1000000"], ["--workers", "limit"], id="a million workers"),
        pytest.param(["--tasks", "0"], ["--tasks", "at least 1"], id="no tasks"),
        pytest.param(["--tasks", "some"], ["--tasks", "whole number"], id="some tasks"),
        pytest.param(["--rounds", "0"], ["--rounds"], id="no rounds"),
        pytest.param(["--budget", "0"], ["--budget", "positive"], id="no budget"),
        pytest.param(["--budget", "soon"], ["--budget", "positive"], id="budget no number"),
        pytest.param(["--models", "fibers"], ["fibers", "processes-threads"], id="unknown model"),
        pytest.param(["--engines", "celery"], ["celery", "stdlib"], id="unknown engine"),
        pytest.param(["--engines", ""], ["engine"], id="no engine"),
        pytest.param(["--fast"], ["--fast", "--help"], id="unknown option"),
        pytest.param(["--json"], ["--json"], id="option without value"),
    ],
)
def test_wrong_option_says_what_to_change(
    run_ungil: Run, arguments: list[str], words: list[str]
) -> None:
    command = ["compare", f"{MISBEHAVING}:harmless", "--items", "[1]", *arguments]
    outcome = run_ungil(command if "--json" in command else [*command, "--json", "-"])
    refused(outcome, USAGE, *words)


@pytest.mark.parametrize("option", ["--items", "--args", "--kwargs"])
def test_items_and_arguments_need_a_function(run_ungil: Run, option: str) -> None:
    refused(run_ungil(["compare", option, "[]"]), USAGE, option, "need a function")


@pytest.mark.parametrize("path", ["no/such/folder/out.json", "."])
def test_unwritable_json_is_found_out_before_the_comparison(run_ungil: Run, path: str) -> None:
    command = ["compare", f"{MISBEHAVING}:spins", "--items", "[1]", "--json", path]
    refused(run_ungil(command, timeout=10), USAGE, "--json", path)


def test_command_without_arguments_shows_help(run_ungil: Run) -> None:
    outcome = run_ungil([])
    assert outcome.code == USAGE
    assert "compare" in outcome.stderr


def test_unknown_command_is_refused(run_ungil: Run) -> None:
    refused(run_ungil(["compere"]), USAGE, "compere")


# Models that are not to be had.


@pytest.mark.parametrize("engine", ["ungil", "stdlib"])
def test_workers_that_the_system_does_not_allow_are_named(run_ungil: Run, engine: str) -> None:
    def allow_few_descriptors() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    outcome = run_ungil(
        [
            *["compare", f"{MISBEHAVING}:harmless", "--items", "range(100)", "--workers", "100"],
            *["--models", "processes", "--rounds", "1", "--engines", engine],
        ],
        preexec_fn=allow_few_descriptors,
    )
    assert outcome.code == MODEL_FAILED, outcome
    outcome.assert_kept("serial")
    failure = outcome.failure("processes")
    assert failure["kind"] == "unavailable"
    assert "100 workers" in failure["message"]
    assert "--workers" in failure["message"]


def test_interpreters_run_from_3_14_on_and_before_say_when_they_come(run_ungil: Run) -> None:
    outcome = compare(run_ungil, "harmless", "--engines", "stdlib", models="interpreters")
    if sys.version_info >= (3, 14):
        assert outcome.code == SUCCESS, outcome
        outcome.assert_kept("serial", "interpreters")
        return
    assert outcome.code == MODEL_FAILED
    assert "3.14" in outcome.failure("interpreters")["message"]
    outcome.assert_kept("serial")


def test_interpreters_are_said_to_be_the_stdlibs(run_ungil: Run) -> None:
    outcome = compare(run_ungil, "harmless", models="interpreters")
    assert outcome.code == MODEL_FAILED
    assert outcome.failure("interpreters")["kind"] == "unavailable"
    for words in ["the engine ungil has no interpreters", "stdlib", "3.14"]:
        assert words in outcome.failure("interpreters")["message"]
    outcome.assert_kept("serial")


def test_model_that_an_engine_lacks_is_named(run_ungil: Run) -> None:
    outcome = compare(
        run_ungil, "harmless", "--engines", "multiprocessing", models="processes-threads"
    )
    assert outcome.code == MODEL_FAILED
    failure = outcome.failure("processes_threads")
    assert failure["kind"] == "unavailable"
    assert "multiprocessing" in failure["message"]


# Functions that misbehave.


BOTH_ENGINES = pytest.mark.parametrize("engine", ["ungil", "stdlib"])


def compare(
    run_ungil: Run,
    function: str,
    *arguments: str,
    models: str = "threads,processes",
    items: str = "range(4)",
    budget: float = 20,
) -> Outcome:
    return run_ungil(
        [
            *["compare", f"{MISBEHAVING}:{function}", "--items", items, "--models", models],
            *["--rounds", "1", "--workers", "2", "--budget", str(budget), *arguments],
        ]
    )


EVERYWHERE = {"serial", "threads", "processes"}


@BOTH_ENGINES
def test_function_that_raises_is_quoted_with_task_and_place(run_ungil: Run, engine: str) -> None:
    models = "threads,processes,processes-threads"
    outcome = compare(run_ungil, "raises_for_two", "--engines", engine, models=models)
    assert outcome.code == NOTHING_FINISHED
    for model in ["serial", "threads", "processes", "processes_threads"]:
        failure = outcome.failure(model)
        assert failure["kind"] == "raised"
        for words in ["raises_for_two() raised LookupError: two", "misbehaving.py:"]:
            assert words in failure["message"]
        # The stdlib's processes with threads get several tasks at once.
        if (engine, model) != ("stdlib", "processes_threads"):
            assert "task 2" in failure["message"]
        assert 'raise LookupError("two")' in failure["detail"]


@pytest.mark.parametrize(
    ("function", "failing", "kept"),
    [
        ("raises_in_process", "processes", "threads"),
        ("raises_in_thread", "threads", "processes"),
    ],
)
def test_function_that_raises_in_one_model_keeps_the_others(
    run_ungil: Run, function: str, failing: str, kept: str
) -> None:
    outcome = compare(run_ungil, function)
    assert outcome.code == MODEL_FAILED
    assert "ValueError: only in a" in outcome.failure(failing)["message"]
    outcome.assert_kept("serial", kept)
    assert outcome.failed() == {failing}


def test_coroutine_that_raises_is_quoted(run_ungil: Run) -> None:
    outcome = compare(run_ungil, "coroutine_that_raises", models="asyncio,threads,processes")
    assert outcome.code == NOTHING_FINISHED
    for model in ["serial", "asyncio", "threads", "processes"]:
        assert "ValueError: in a coroutine" in outcome.failure(model)["message"]


def test_exception_without_text_is_named(run_ungil: Run) -> None:
    outcome = compare(run_ungil, "raises_unspeakable")
    assert outcome.code == NOTHING_FINISHED
    assert outcome.failed() == EVERYWHERE
    assert "Unspeakable" in outcome.failure("serial")["message"]


@BOTH_ENGINES
def test_exception_that_cannot_be_rebuilt_is_not_called_a_crash(
    run_ungil: Run, engine: str
) -> None:
    outcome = compare(run_ungil, "raises_what_cannot_be_rebuilt", "--engines", engine)
    assert outcome.code == NOTHING_FINISHED
    assert "TwoArguments: 1 and 2" in outcome.failure("serial")["message"]
    failure = outcome.failure("processes")
    assert failure["kind"] == "unpicklable"
    assert "super().__init__(...)" in failure["message"]
    assert "Guarded" not in failure["message"]
    if engine == "ungil":
        for words in ["TwoArguments: 1 and 2", "task 0", "missing 1 required"]:
            assert words in failure["message"]
        assert "raise TwoArguments(1, 2)" in failure["detail"]


def test_stop_iteration_is_an_exception_and_no_end(run_ungil: Run) -> None:
    outcome = compare(run_ungil, "raises_stop_iteration")
    assert outcome.code == NOTHING_FINISHED
    for model in EVERYWHERE:
        assert "StopIteration" in outcome.failure(model)["message"]


def test_keyboard_interrupt_of_the_function_is_not_the_users(run_ungil: Run) -> None:
    outcome = compare(run_ungil, "raises_keyboard_interrupt")
    assert outcome.code == NOTHING_FINISHED
    assert "KeyboardInterrupt" in outcome.failure("serial")["message"]
    assert outcome.failure("threads")["kind"] == "raised"


@pytest.mark.parametrize("function", ["exits", "coroutine_that_exits"])
def test_sys_exit_in_a_task_is_named(run_ungil: Run, function: str) -> None:
    models = "asyncio,threads,processes" if "coroutine" in function else "threads,processes"
    outcome = compare(run_ungil, function, models=models)
    assert outcome.code == NOTHING_FINISHED
    for model in outcome.models:
        failure = outcome.failure(model)
        assert failure["kind"] == "exited"
        assert "sys.exit(" in failure["message"]


def test_os_exit_in_a_task_is_named(run_ungil: Run) -> None:
    outcome = compare(run_ungil, "exits_at_once")
    assert outcome.code == NOTHING_FINISHED
    for model in ["serial", "threads"]:
        assert "exit code 3" in outcome.failure(model)["message"]
        assert "os._exit()" in outcome.failure(model)["message"]
    assert outcome.failure("processes")["kind"] == "died"
    assert "worker died (exit code 3)" in outcome.failure("processes")["message"]


@pytest.mark.parametrize(
    ("function", "signal"), [("kills_itself", "SIGKILL"), ("crashes", "SIGSEGV")]
)
def test_task_that_ends_by_a_signal_is_named(run_ungil: Run, function: str, signal: str) -> None:
    outcome = compare(run_ungil, function)
    assert outcome.code == NOTHING_FINISHED
    for model in ["serial", "threads"]:
        assert outcome.failure(model)["kind"] == "died"
        assert signal in outcome.failure(model)["message"]
    assert f"worker died ({signal})" in outcome.failure("processes")["message"]


@BOTH_ENGINES
def test_worker_that_kills_itself_keeps_the_other_models(run_ungil: Run, engine: str) -> None:
    outcome = compare(run_ungil, "kills_its_process", "--engines", engine)
    assert outcome.code == MODEL_FAILED
    assert "worker died" in outcome.failure("processes")["message"]
    assert outcome.failed() == {"processes"}
    outcome.assert_kept("serial", "threads")


def test_fork_that_comes_back_twice_is_refused_at_once(run_ungil: Run) -> None:
    outcome = compare(run_ungil, "forks")
    assert outcome.code == NOTHING_FINISHED
    for model in EVERYWHERE:
        assert outcome.failure(model)["kind"] == "forked"
        assert "os._exit()" in outcome.failure(model)["message"]


def test_fork_that_comes_back_twice_does_not_run_the_other_tasks_twice(
    run_ungil: Run, tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    run_ungil(
        ["compare", f"{MISBEHAVING}:forks_and_says_so", "--items", "range(4)"],
        env={"UNGIL_TEST_CALLS": str(calls)},
    )
    # Without an end to the children it would be 15: each call doubles all later ones.
    assert calls.read_text().count("called") == 4


def test_fork_whose_child_ends_is_fine(run_ungil: Run) -> None:
    outcome = compare(run_ungil, "forks_and_ends_the_child", models="processes")
    assert outcome.code == SUCCESS, outcome
    outcome.assert_kept("serial", "processes")


@pytest.mark.parametrize("function", ["spins", "spins_with_the_gil", "sleeps_and_ignores_signals"])
def test_function_that_never_returns_is_ended_by_the_budget(run_ungil: Run, function: str) -> None:
    outcome = compare(run_ungil, function, budget=1.5)
    assert outcome.code == NOTHING_FINISHED
    for model in EVERYWHERE:
        assert outcome.failure(model)["kind"] == "timed_out"
        assert "--budget" in outcome.failure(model)["message"]
    assert outcome.comparison["course"]["elapsed_s"] < 6


@pytest.mark.parametrize(
    ("function", "failing", "kept"),
    [
        ("deadlocks_in_thread", "threads", "processes"),
        ("deadlocks_in_process", "processes", "threads"),
    ],
)
def test_deadlock_in_one_model_keeps_the_others(
    run_ungil: Run, function: str, failing: str, kept: str
) -> None:
    outcome = compare(run_ungil, function, budget=3)
    assert outcome.code == MODEL_FAILED
    assert outcome.failure(failing)["kind"] == "timed_out"
    outcome.assert_kept("serial", kept)


def test_lambda_is_sent_by_value(run_ungil: Run) -> None:
    outcome = compare(run_ungil, "unnamed", models="threads,processes,processes-threads")
    assert outcome.code == SUCCESS, outcome
    outcome.assert_kept("serial", "threads", "processes", "processes_threads")


def test_function_that_holds_what_cannot_be_sent_is_told_which(run_ungil: Run) -> None:
    outcome = compare(run_ungil, "holds_a_lock", models="threads,processes")
    assert outcome.code == MODEL_FAILED
    outcome.assert_kept("serial", "threads")
    failure = outcome.failure("processes")
    assert failure["kind"] == "unpicklable"
    assert "_thread.lock" in failure["message"]
    assert "cannot be sent to a worker process" in failure["message"]


def test_lambda_runs_where_nothing_is_pickled(run_ungil: Run) -> None:
    outcome = compare(
        *[run_ungil, "unnamed", "--engines", "stdlib"], models="threads,processes,processes-threads"
    )
    assert outcome.code == MODEL_FAILED
    outcome.assert_kept("serial", "threads")
    for model in ["processes", "processes_threads"]:
        assert outcome.failure(model)["kind"] == "unpicklable"
        assert "top level of a module" in outcome.failure(model)["message"]


@pytest.mark.parametrize(
    ("engine", "item"), [("ungil", "threading.Lock()"), ("stdlib", "lambda: 1")]
)
def test_item_that_cannot_be_pickled_is_named(run_ungil: Run, engine: str, item: str) -> None:
    items = f"[0, {item}]"
    outcome = compare(
        run_ungil, "returns_a_lock", "--engines", engine, items=items, models="processes"
    )
    assert outcome.failure("processes")["kind"] == "unpicklable"
    assert "item of task 1" in outcome.failure("processes")["message"]
    assert outcome.code == MODEL_FAILED
    outcome.assert_kept("serial")


@BOTH_ENGINES
@pytest.mark.parametrize("function", ["returns_a_generator", "returns_a_coroutine"])
def test_function_whose_call_does_no_work_is_refused(
    run_ungil: Run, function: str, engine: str
) -> None:
    outcome = compare(run_ungil, function, "--engines", engine)
    assert outcome.code == NOTHING_FINISHED
    refusing = {"serial", "threads"}
    if function == "returns_a_coroutine":
        # It is noticed where it is returned; a generator is noticed when it cannot be sent.
        refusing.add("processes")
    for model in refusing:
        assert outcome.failure(model)["kind"] == "target"
        assert "a call does no work" in outcome.failure(model)["message"]
    assert "never awaited" not in outcome.stdout


def test_exception_that_is_longer_than_a_book_is_cut(run_ungil: Run) -> None:
    outcome = compare(run_ungil, "raises_a_book", models="threads")
    assert outcome.code == NOTHING_FINISHED
    assert len(outcome.stdout) < 40_000


def test_exception_of_a_local_class_is_quoted(run_ungil: Run) -> None:
    outcome = compare(run_ungil, "raises_a_local_class_in_process", models="processes")
    assert outcome.failure("processes")["kind"] == "raised"
    message = outcome.failure("processes")["message"]
    assert "raises_a_local_class_in_process() raised LocalError: local" in message
    assert "task 0" in message


def test_exception_of_a_local_class_is_said_to_be_raised(run_ungil: Run) -> None:
    outcome = compare(
        *[run_ungil, "raises_a_local_class_in_process", "--engines", "stdlib"], models="processes"
    )
    message = outcome.failure("processes")["message"]
    assert "what raises_a_local_class_in_process() raised" in message
    assert "Traceback" not in message


def test_result_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            [
                *[sys.executable, "-m", "ungil", "compare", f"{MISBEHAVING}:harmless"],
                *["--items", "[1]", "--rounds", "1", "--models", "serial"],
            ],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
    assert ran.returncode == UNWRITTEN
    assert "could not be written" in ran.stderr


def test_attribute_of_a_plain_object_is_refused_without_a_traceback(run_ungil: Run) -> None:
    refused(run_ungil(["compare", "os:sep.foo", "--items", "[1]"]), TARGET, "sep has no foo")


def test_module_hidden_by_a_file_of_that_name_is_refused(run_ungil: Run, tmp_path: Path) -> None:
    (tmp_path / "queue.py").write_text("def work(item): return item\n")
    outcome = run_ungil(["compare", "queue:work", "--items", "[1]"], cwd=tmp_path)
    refused(outcome, TARGET, "queue.py", "my_queue.py")


def test_result_that_only_pickles_by_value_is_sent(run_ungil: Run) -> None:
    outcome = compare(run_ungil, "returns_a_lambda", models="processes")
    assert outcome.code == SUCCESS, outcome
    outcome.assert_kept("serial", "processes")


@pytest.mark.parametrize(
    ("engine", "function"),
    [("ungil", "returns_a_lock"), ("stdlib", "returns_a_lambda"), ("stdlib", "returns_a_lock")],
)
def test_result_that_cannot_be_pickled_is_named(run_ungil: Run, engine: str, function: str) -> None:
    outcome = compare(run_ungil, function, "--engines", engine, models="processes")
    assert outcome.code == MODEL_FAILED
    outcome.assert_kept("serial")
    assert outcome.failure("processes")["kind"] == "unpicklable"
    assert f"what {function}() returns" in outcome.failure("processes")["message"]


def test_multiprocessing_pool_says_the_same_of_what_cannot_be_pickled(run_ungil: Run) -> None:
    outcome = compare(
        run_ungil, "returns_a_lambda", "--engines", "multiprocessing", models="processes"
    )
    assert outcome.failure("processes")["kind"] == "unpicklable"
    assert "what returns_a_lambda() returns" in outcome.failure("processes")["message"]


def test_memoised_function_is_said_to_be(run_ungil: Run) -> None:
    outcome = compare(run_ungil, "cached", models="threads")
    assert outcome.code == MEMOISED
    (note,) = outcome.notes("memoised")
    assert "lru_cache" in note
    assert "__wrapped__" in note


def test_function_that_remembers_is_noticed_by_measurement(run_ungil: Run) -> None:
    outcome = compare(run_ungil, "remembers", models="threads")
    # It may as well have imported something in its first call, so this is a note and no error.
    assert outcome.code == SUCCESS
    assert "remembers" in outcome.notes("prepared")[0]


def test_different_results_are_an_error_of_the_function(run_ungil: Run) -> None:
    outcome = compare(run_ungil, "names_its_thread")
    assert outcome.code == RESULTS_DIFFER
    outcome.assert_kept(*EVERYWHERE)
    assert outcome.measurement("threads")["agreement"] == {
        "state": "different",
        "task": 2,
        "tasks": 1,
        "expected": "'caller'",
        "found": "'worker'",
    }
    assert outcome.measurement("processes")["agreement"]["state"] == "equal"
    (note,) = outcome.notes("results_differ")
    assert "threads: 1 of 4 results differ" in note


def test_what_a_function_prints_stays_off_the_screen(run_ungil: Run) -> None:
    outcome = compare(run_ungil, "prints", models="processes")
    assert outcome.code == SUCCESS, outcome
    (note,) = outcome.notes("printed")
    assert "printed by the task" in note
    assert "\x1b" not in outcome.stdout + outcome.stderr
    assert "and this on standard error" not in outcome.stdout + outcome.stderr


def test_function_that_prints_much_is_not_held_up(run_ungil: Run) -> None:
    outcome = compare(run_ungil, "prints_much", models="threads")
    assert outcome.code == SUCCESS, outcome
    assert len(outcome.stdout) < 20_000


def test_function_that_asks_is_told_to_take_an_argument(run_ungil: Run) -> None:
    outcome = compare(run_ungil, "asks", models="threads,processes")
    assert outcome.code == NOTHING_FINISHED
    for model in EVERYWHERE:
        assert "standard input" in outcome.failure(model)["message"]


def test_function_that_reads_standard_input_finds_it_empty(run_ungil: Run) -> None:
    outcome = run_ungil(
        [
            *["compare", f"{MISBEHAVING}:reads_standard_input", "--items", "-"],
            *["--models", "processes", "--rounds", "1"],
        ],
        stdin="1\n2\n",
    )
    assert outcome.code == SUCCESS, outcome
    assert outcome.comparison["tasks"] == 2


@pytest.mark.parametrize("function", ["leaves_a_process", "leaves_a_daemon"])
def test_processes_left_running_are_ended_and_reported(run_ungil: Run, function: str) -> None:
    # That they are gone is what the fixture checks.
    outcome = compare(run_ungil, function, models="threads")
    assert outcome.code == SUCCESS, outcome
    (note,) = outcome.notes("left_running")
    assert "ended with the comparison" in note


@BOTH_ENGINES
@pytest.mark.parametrize("function", ["writes_into_all_descriptors", "closes_all_descriptors"])
def test_function_that_destroys_descriptors_is_blamed(
    run_ungil: Run, function: str, engine: str
) -> None:
    outcome = compare(run_ungil, function, "--engines", engine, budget=8)
    # A worker of ungil's needs no descriptor once it has started.
    needs_none = engine == "ungil" and function == "closes_all_descriptors"
    assert outcome.code == (MODEL_FAILED if needs_none else NOTHING_FINISHED)
    assert outcome.failed() == (EVERYWHERE - {"processes"} if needs_none else EVERYWHERE)
    for model in outcome.failed():
        assert outcome.failure(model)["kind"] in {"died", "exited", "timed_out", "raised"}
        assert f"{function}()" in outcome.failure(model)["message"]


def test_function_that_changes_the_folder_is_fine(run_ungil: Run) -> None:
    outcome = compare(run_ungil, "changes_folder", models="processes")
    assert outcome.code == SUCCESS, outcome
