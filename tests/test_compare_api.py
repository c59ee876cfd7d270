"""``ungil.compare()``: the report as objects, and functions from wherever they are."""

from __future__ import annotations

import functools
import json
import math
import operator
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ungil
from conftest import Outcome, Run
from leftovers import Leftovers
from ungil.report import Advice, CallerDelay, Estimate, Measurement, Report, StartUp


@pytest.fixture(autouse=True)
def nothing_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whatever a test compares in this process, nothing is left of it."""
    folder = tmp_path_factory.mktemp("tmp")
    leftovers = Leftovers(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in leftovers.environment().items():
            patch.setenv(name, value)
        yield
    leftovers.check()


def quick(function: Callable[..., Any], items: Any = range(3), **options: Any) -> Report:
    """The shortest comparison that still runs both sides of a pickle."""
    # Workers that are no forks of the host import this module, and pytest with it.
    settings = {"models": ["processes"], "rounds": 1, "budget": 10, "workers": 1}
    return ungil.compare(function, items, **{**settings, **options})


def nap(item: int) -> int:
    time.sleep(0.01)
    return item


def add(item: int, *more: int, scale: int = 1) -> int:
    return scale * (item + sum(more))


class Shop:
    """Has methods, can be called, and keeps its state through a pickle."""

    def __init__(self, price: int) -> None:
        self.price = price

    def total(self, item: int) -> int:
        return self.price * item

    def __call__(self, item: int) -> int:
        return self.price + item

    @staticmethod
    def static(item: int) -> int:
        return item

    @classmethod
    def of_class(cls, item: int) -> str:
        return cls.__name__ * item


@pytest.fixture(scope="module")
def report() -> Report:
    return ungil.compare(nap, range(4), rounds=2, budget=30, workers=2, log=True, seed=7)


# The report.


def test_report_has_what_was_measured(report: Report) -> None:
    assert report.target == "nap"
    assert report.tasks == 4
    assert [each.model for each in report.measurements] == [
        *["serial", "threads", "processes", "processes-threads"]
    ]
    for measurement in report.measurements:
        assert isinstance(measurement, Measurement)
        assert measurement.failure is None
        assert measurement.results == "equal"
        assert isinstance(measurement.time_s, Estimate)
        assert measurement.time_s.value > 0.01
        assert measurement.time_s.samples == 2
        assert isinstance(measurement.times_faster, Estimate)
        assert isinstance(measurement.cpu_cores_used, float)
        assert isinstance(measurement.memory_peak_bytes, int)
        assert isinstance(measurement.cold_start, StartUp)
        assert isinstance(measurement.caller_delay, CallerDelay)
        assert isinstance(measurement.shares_memory, bool)
    assert report["serial"].times_faster is not None
    assert report["serial"].times_faster.value == 1
    assert report["threads"].warm_start is not None


def test_report_advises_for_once_and_repeated(report: Report) -> None:
    for advice in (report.once, report.repeated):
        assert isinstance(advice, Advice)
        assert advice.choice in report.measurements
        assert advice.choice in advice.fastest
        assert advice.certainty in {"winner", "tie", "undecided", "alone"}
        assert advice.sentence in " ".join(str(report).split())


def test_advice_documents_every_certainty_that_it_may_have() -> None:
    schema = Path(__file__).parents[1] / "docs" / "compare.schema.json"
    certainties = json.loads(schema.read_text())["$defs"]["Certainty"]["oneOf"]
    for certainty in certainties:
        assert f'"{certainty["const"]}"' in (Advice.__doc__ or "")


def test_report_is_indexed_by_model_however_it_is_written(report: Report) -> None:
    assert report["processes-threads"] is report["processes_threads"]
    assert report["threads"].shares_memory is True
    assert report["processes"].shares_memory is False
    with pytest.raises(KeyError, match="fibers"):
        report["fibers"]


def test_report_is_text_where_it_is_shown(report: Report) -> None:
    assert str(report) == repr(report) == f"{report}"
    assert "nap" in str(report)
    assert "\x1b" not in str(report)
    assert str(report) == str(report).rstrip()


def test_report_is_json(report: Report, tmp_path: Path) -> None:
    text = report.to_json(tmp_path / "report.json")
    assert (tmp_path / "report.json").read_text() == text == report.to_json()
    document = json.loads(text)
    assert document["schema"] == "ungil.compare/1"
    assert document["ungil"] == ungil.__version__
    assert document["comparisons"] == [report.data]
    with pytest.raises(OSError, match="no_such"):
        report.to_json(tmp_path / "no_such" / "report.json")


def test_json_of_a_report_follows_the_schema_of_the_command(report: Report) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = Path(__file__).parents[1] / "docs" / "compare.schema.json"
    jsonschema.validate(json.loads(report.to_json()), json.loads(schema.read_text()))


def test_report_keeps_the_log_and_the_seed(report: Report) -> None:
    assert report.data["course"]["seed"] == 7
    assert all(len(each["log"]) == 4 for each in report.data["measurements"])


def test_measurements_cannot_be_changed(report: Report) -> None:
    with pytest.raises(AttributeError):
        report["serial"].workers = 3  # type: ignore[misc]


# Functions, from wherever they are.


def test_every_kind_of_importable_callable_runs_under_processes() -> None:
    for function in [
        math.sqrt,
        functools.partial(functools.partial(add, 1), scale=2),
        Shop(3),
        Shop(3).total,
        Shop.of_class,
    ]:
        report = quick(function)
        assert report["processes"].failure is None, function
        assert report["processes"].results == "equal", function


def test_lambdas_and_local_functions_run_where_nothing_is_pickled() -> None:
    factor = 3

    def local(item: int) -> int:
        return item * factor

    for function in (local, lambda item: item * factor):
        report = quick(function, models=["threads", "processes"], engines=["stdlib"])
        assert report["threads"].failure is None
        assert report["threads"].results == "equal"
        assert "top level of a module" in (report["processes"].failure or "")


def test_lambdas_and_local_functions_are_sent_by_value() -> None:
    factor = 3

    def local(item: int) -> int:
        return item * factor

    for function in (local, lambda item: item * factor):
        report = quick(function, models=["processes", "processes-threads"])
        for model in ("processes", "processes-threads"):
            assert report[model].failure is None
            assert report[model].results == "equal"


def test_coroutine_functions_are_recognised() -> None:
    import asyncio

    async def local(item: int) -> int:
        await asyncio.sleep(0.001)
        return item

    report = quick(local, models=None)
    assert report["asyncio"].failure is None
    assert report.data["is_coroutine_function"] is True


def test_arguments_reach_the_function() -> None:
    report = quick(add, iter([1, 2]), args=[2, 3], kwargs={"scale": 10}, tasks=5)
    assert report["processes"].results == "equal"
    assert report.tasks == 5


def test_function_without_items_is_called_eight_times() -> None:
    assert quick(add, None, args=[1], models=["serial"]).tasks == 8


def test_executors_are_our_own_unless_others_are_asked_for(report: Report) -> None:
    engines = {each.model: each.engine for each in report.measurements}
    own = dict.fromkeys(["threads", "processes", "processes-threads"], "ungil")
    assert engines == {"serial": "python", **own}
    # There is nothing to tell apart.
    assert "ungil" not in str(report).replace("ungil.", "")
    stdlib = quick(add, engines=["stdlib"])
    assert stdlib["processes"].engine == "stdlib"
    assert "stdlib" not in str(stdlib)


def test_engines_side_by_side_are_told_apart() -> None:
    report = quick(
        *[nap, range(4)],
        models=["threads", "processes", "processes-threads"],
        engines=["ungil", "stdlib"],
        workers=2,
        rounds=2,
        budget=20,
    )
    ways = [(each.model, each.engine) for each in report.measurements]
    assert ways == [
        ("serial", "python"),
        *[
            (model, engine)
            for model in ("threads", "processes", "processes-threads")
            for engine in ("ungil", "stdlib")
        ],
    ]
    for measurement in report.measurements:
        assert measurement.failure is None
        assert measurement.results == "equal"
        if measurement.engine != "python":
            assert f"{measurement.model} ({measurement.engine})" in str(report)
    # Both have two processes of two threads each, and all of them answer.
    for measurement in report.measurements[5:]:
        assert (measurement.workers, measurement.threads_per_worker) == (2, 2)
        assert measurement.cold_start is not None
        assert measurement.cold_start.workers == 2
    assert report["threads"].engine in {"ungil", "stdlib"}
    method = report.data["python"]["start_method"]
    assert re.fullmatch(r"zygote \(ungil\), \w+ \(stdlib\)", method)


def test_compare_works_in_a_thread_other_than_the_main_one() -> None:
    reports: list[Report] = []
    thread = threading.Thread(target=lambda: reports.append(quick(add)))
    thread.start()
    thread.join(60)
    (report,) = reports
    assert report["processes"].failure is None


def test_two_comparisons_at_once_do_not_disturb_one_another() -> None:
    reports: list[Report] = []
    threads = [threading.Thread(target=lambda: reports.append(quick(add))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [report["processes"].failure for report in reports] == [None, None]


UNCHANGED = """
import operator, os, sys, threading
import ungil

def state():
    descriptors = sorted(os.listdir("/proc/self/fd"))
    return set(threading.enumerate()), descriptors, os.getcwd(), list(sys.path), list(sys.argv)

before = state()
ungil.compare(operator.neg, range(3), models=["processes"], rounds=1, budget=10, workers=1)
assert state() == before, (state(), before)
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("unchanged")
"""


def test_compare_leaves_the_calling_process_as_it_was(run_python: Run) -> None:
    # In a process of its own: other tests leave theirs a zygote, and descriptors that they give
    # back when they are collected.
    outcome = run_python(["-c", UNCHANGED])
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, "unchanged\n", "")


# Errors.


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        ((3,), {}, TypeError, "must be callable"),
        ((add, "abc"), {}, TypeError, "items is text"),
        ((add, b"abc"), {}, TypeError, "items is text"),
        ((add, 3), {}, TypeError, "not iterable"),
        ((add, []), {}, ValueError, "items is empty"),
        ((add, [1]), {"workers": 0}, ValueError, "workers must be at least 1"),
        ((add, [1]), {"workers": []}, ValueError, "workers is an empty list"),
        ((add, [1]), {"workers": "many"}, TypeError, "workers must be a whole number"),
        ((add, [1]), {"workers": 1.5}, TypeError, "workers"),
        ((add, [1]), {"workers": [1, True]}, TypeError, "workers must be a whole number"),
        ((add, [1]), {"tasks": 0}, ValueError, "tasks must be at least 1"),
        ((add, [1]), {"tasks": "3"}, TypeError, "tasks must be a whole number"),
        ((add, [1]), {"rounds": 0}, ValueError, "rounds must be at least 1"),
        ((add, [1]), {"budget": 0}, ValueError, "budget must be a positive"),
        ((add, [1]), {"budget": float("nan")}, ValueError, "budget must be a positive"),
        ((add, [1]), {"budget": "soon"}, ValueError, "budget must be a positive"),
        ((add, [1]), {"models": ["fibers"]}, ValueError, "no model 'fibers'"),
        ((add, [1]), {"models": "threads"}, (TypeError, ValueError), "models"),
        ((add, [1]), {"engines": ["celery"]}, ValueError, "celery.*ungil, stdlib"),
        ((add, [1]), {"engines": "stdlib"}, (TypeError, ValueError), "engines"),
        ((add, [1]), {"engines": []}, ValueError, "engines"),
        ((add, [1]), {"seed": -1}, ValueError, "seed"),
        ((add, [1]), {"seed": "x"}, TypeError, "seed"),
        ((add, [1]), {"args": [1], "kwargs": {"size": 3}}, TypeError, "size"),
        ((add, [1]), {"args": 3}, TypeError, "args"),
        ((add, [1]), {"kwargs": [1]}, TypeError, "kwargs"),
        ((add,), {}, TypeError, "missing"),
        ((nap, [1]), {"args": [2]}, TypeError, "too many positional"),
    ],
)
def test_wrong_argument_is_an_exception_that_names_it(
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    error: type[Exception] | tuple[type[Exception], ...],
    words: str,
) -> None:
    with pytest.raises(error, match=words):
        ungil.compare(*arguments, **options)


def test_function_that_cannot_be_sent_at_all_is_a_type_error() -> None:
    lock = threading.Lock()

    def locked(item: int) -> int:
        with lock:
            return item

    with pytest.raises(TypeError, match="cannot be sent to the processes that compare it"):
        quick(locked)


def test_generator_function_is_a_type_error() -> None:
    def each(item: int) -> Iterator[int]:
        yield item

    with pytest.raises(TypeError, match="generator function"):
        quick(each)


def test_function_that_fails_everywhere_gives_a_report_that_says_so() -> None:
    report = quick(operator.truediv, [1], args=[0])
    assert report.repeated is None
    assert "ZeroDivisionError" in (report["serial"].failure or "")
    assert "ZeroDivisionError" in str(report)


# Scripts, standard input and the interactive prompt.

SCRIPT = """
import dataclasses, enum, sys
import ungil

class Color(enum.Enum):
    RED = 1

@dataclasses.dataclass
class Order:
    number: int
    color: Color = Color.RED

FACTOR = 3

def double(order):
    assert isinstance(order, Order), type(order)
    assert order.color is Color.RED
    return Order(order.number * FACTOR)

if __name__ == "__main__":
    report = ungil.compare(
        double, [Order(1), Order(2)], models=["threads", "processes"], rounds=1, budget=10,
        engines=["ungil", "stdlib"],
    )
    for each in report.measurements:
        print(each.engine, each.model, each.results, each.failure)
"""
EXPECTED = """\
python serial equal None
ungil threads equal None
stdlib threads equal None
ungil processes equal None
stdlib processes equal None
"""


def assert_compared(outcome: Outcome) -> None:
    assert outcome.code == 0, outcome
    assert outcome.stdout == EXPECTED
    assert outcome.stderr == ""


def test_functions_and_classes_of_a_script_keep_their_identity(
    run_python: Run, tmp_path: Path
) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    assert_compared(run_python(["script.py"], cwd=tmp_path))


def test_functions_of_a_script_read_from_standard_input(run_python: Run) -> None:
    assert_compared(run_python(["-"], stdin=SCRIPT))


def test_functions_of_a_command_line(run_python: Run) -> None:
    assert_compared(run_python(["-c", SCRIPT]))


def test_functions_of_the_interactive_prompt(run_python: Run) -> None:
    # Without __file__, and with source that no file has.
    program = (
        "import sys; sys.modules['__main__'].__dict__.pop('__file__', None); "
        f"exec(compile({SCRIPT!r}, '<stdin>', 'exec'), sys.modules['__main__'].__dict__)"
    )
    assert_compared(run_python(["-c", program]))


def test_functions_of_a_module_run_with_m(run_python: Run, tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text("")
    (tmp_path / "shop" / "orders.py").write_text(SCRIPT)
    assert_compared(run_python(["-m", "shop.orders"], cwd=tmp_path))


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_script_whose_workers_import_it_again_is_compared(
    run_python: Run, tmp_path: Path, method: str
) -> None:
    started = SCRIPT.replace(
        "FACTOR = 3",
        f"FACTOR = 3\nimport multiprocessing\nmultiprocessing.set_start_method({method!r}, force=True)",
    )
    (tmp_path / "script.py").write_text(started)
    assert_compared(run_python(["script.py"], cwd=tmp_path))


@pytest.mark.parametrize("engine", ["ungil", "stdlib"])
def test_script_without_guard_ends_in_a_clear_error_and_no_recursion(
    run_python: Run, tmp_path: Path, engine: str
) -> None:
    (tmp_path / "script.py").write_text(
        "import multiprocessing, os\n"
        "import ungil\n"
        "multiprocessing.set_start_method('spawn', force=True)\n"
        "open('starts', 'a').write('x')\n"
        "def double(item): return item * 2\n"
        "report = ungil.compare(double, [1], models=['processes'], rounds=1, budget=10,\n"
        f"                       engines=[{engine!r}])\n"
        "print(report['processes'].failure)\n"
        "print(report['serial'].failure)\n"
    )
    outcome = run_python(["script.py"], cwd=tmp_path)
    assert outcome.code == 0, outcome
    failure, serial = outcome.stdout.splitlines()
    assert serial == "None"
    starts = len((tmp_path / "starts").read_text())
    if engine == "ungil":
        # Its workers do not run the script again.
        assert (failure, starts) == ("None", 1)
    # Either it can be run all the same, or the report says what to change.
    assert failure == "None" or "__name__" in failure, failure
    assert starts < 20


def test_main_that_was_changed_after_its_functions_is_seen_as_it_is(run_python: Run) -> None:
    program = SCRIPT.replace(
        "    report = ungil",
        "    FACTOR = 5\n    assert double(Order(1)).number == 5\n    report = ungil",
    )
    assert_compared(run_python(["-"], stdin=program))


def test_package_is_small_to_import() -> None:
    # Worker processes import it to find the functions that they run.
    program = "import sys, ungil; print('ungil._core' in sys.modules, ungil.compare.__name__)"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert shown.stdout == "False compare\n", shown


def test_public_names_are_listed() -> None:
    assert {"compare", "Report", "__version__"} <= set(dir(ungil))
    assert set(ungil.__all__) <= set(dir(ungil))
    with pytest.raises(AttributeError, match="no attribute 'comparr'"):
        ungil.comparr  # noqa: B018
