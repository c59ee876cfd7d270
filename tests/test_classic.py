"""``ungil compare`` without arguments: the two classic tasks."""

from __future__ import annotations

import pytest
from conftest import Outcome, Run
from ungil import classic

BUDGET_S = 7


@pytest.fixture(scope="module")
def both(run_ungil: Run) -> Outcome:
    return run_ungil(["compare", "--budget", str(BUDGET_S)])


def test_two_classic_tasks_are_compared(both: Outcome) -> None:
    assert both.code == 0, both
    assert both.document is not None
    targets = [comparison["target"] for comparison in both.document["comparisons"]]
    assert targets == ["ungil.classic:countdown", "ungil.classic:sleep"]
    for comparison in both.document["comparisons"]:
        models = [each["setup"]["model"] for each in comparison["measurements"]]
        assert models[:1] == ["serial"]
        assert {"threads", "processes", "processes_threads"} <= set(models)
        assert all(each["failure"] is None for each in comparison["measurements"])


def test_classic_tasks_share_the_budget(both: Outcome) -> None:
    assert both.document is not None
    courses = [comparison["course"] for comparison in both.document["comparisons"]]
    assert [course["budget_s"] for course in courses] == [BUDGET_S / 2] * 2
    assert sum(course["elapsed_s"] for course in courses) < BUDGET_S + 3


def test_one_computes_and_the_other_waits(both: Outcome) -> None:
    assert both.document is not None
    countdown, sleep = (comparison["measurements"] for comparison in both.document["comparisons"])
    assert countdown[0]["cpu_cores_used"] > 0.5
    assert sleep[0]["cpu_cores_used"] < 0.2


def test_each_ends_in_two_sentences(both: Outcome) -> None:
    # Lines are broken at the width of the page.
    text = " ".join(both.stdout.split())
    assert both.document is not None
    for comparison in both.document["comparisons"]:
        assert comparison["repeated"]["sentence"] in text
    assert text.count("This job once:") == text.count("Repeated:") == 2


def test_classic_functions_do_what_they_say() -> None:
    assert classic.countdown(1000) == 0
    assert classic.countdown(0) == 0
    assert classic.sleep(0.0) == 0.0
