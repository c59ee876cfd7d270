"""How text becomes items and arguments, and items become calls."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TARGETS, Outcome, Run

OBSERVED = str(TARGETS / "observed.py")


class Calls:
    """The calls that one comparison made of a function of ``observed.py``."""

    def __init__(self, outcome: Outcome, lines: list[str]) -> None:
        self.outcome = outcome
        self.lines = lines

    @property
    def of_one_run(self) -> list[Any]:
        """What the first run was called with, in order; every run is called with the same."""
        tasks = self.outcome.comparison["tasks"]
        runs = [self.lines[at : at + tasks] for at in range(0, len(self.lines), tasks)]
        assert all(run == runs[0] for run in runs), runs
        return runs[0]

    @property
    def values(self) -> list[Any]:
        """The calls of one run as Python values."""
        return [ast.literal_eval(line) for line in self.of_one_run]


@pytest.fixture
def calls(run_ungil: Run, tmp_path: Path) -> Callable[..., Calls]:
    """Compares serially, and reads what the function was called with."""

    def compare(function: str, *arguments: str, **options: Any) -> Calls:
        path = tmp_path / "calls"
        outcome = run_ungil(
            [
                *["compare", f"{OBSERVED}:{function}", *arguments],
                *["--models", "serial", "--rounds", "1", "--budget", "2"],
            ],
            env={"UNGIL_TEST_CALLS": str(path)},
            cwd=tmp_path,
            **options,
        )
        assert outcome.code == 0, outcome
        return Calls(outcome, path.read_text().splitlines())

    return compare


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("range(3)", [0, 1, 2]),
        ("[1, 'two', None, (3, 4)]", [1, "two", None, (3, 4)]),
        ("(n * n for n in range(3))", [0, 1, 4]),
        ("SIZES", [128, 256]),
        ("[size // 2 for size in SIZES if size > 128]", [128]),
        ("{'a': 1, 'b': 2}", ["a", "b"]),
        ("-1, -2", [-1, -2]),
        ("map(len, ['a', 'bc'])", [1, 2]),
        ("  [ 1 ]", [1]),
    ],
)
def test_items_are_an_expression_with_the_modules_names(
    calls: Callable[..., Calls], text: str, items: list[Any]
) -> None:
    assert calls("note_one", "--items", text).values == items


def test_items_may_be_objects_of_the_modules_classes(calls: Callable[..., Calls]) -> None:
    assert calls("note_one", "--items", "orders()").of_one_run == [
        "Order(number=1)",
        "Order(number=2)",
    ]


LINES = """\
3
 4.5
'a b'
[1, 2]

plain text
   \t
https://example.org/?a=1
None
{"size": 3}
007
__import__('os')
Zürich
"""
VALUES = [
    *[3, 4.5, "a b", [1, 2], "plain text", "https://example.org/?a=1", None, {"size": 3}],
    *["007", "__import__('os')", "Zürich"],
]


def test_items_of_a_file_are_lines_as_literals_or_text(
    calls: Callable[..., Calls], tmp_path: Path
) -> None:
    (tmp_path / "items.txt").write_text(LINES, encoding="utf-8")
    assert calls("note_one", "--items", "items.txt").values == VALUES


def test_items_of_standard_input_are_read_like_a_file(calls: Callable[..., Calls]) -> None:
    assert calls("note_one", "--items", "-", stdin=LINES).values == VALUES


def test_items_of_a_file_with_windows_line_ends_and_no_last_one(
    calls: Callable[..., Calls], tmp_path: Path
) -> None:
    (tmp_path / "items.txt").write_bytes(b"one\r\n2\r\n\r\nthree")
    assert calls("note_one", "--items", "items.txt").values == ["one", 2, "three"]


def test_standard_input_with_windows_line_ends(calls: Callable[..., Calls]) -> None:
    assert calls("note_one", "--items", "-", stdin="one\r\n2\r\n").values == ["one", 2]


def test_items_are_copied_for_every_model_alike(run_ungil: Run, tmp_path: Path) -> None:
    outcome = run_ungil(
        [
            *["compare", f"{OBSERVED}:note_one", "--models", "threads"],
            *["--items", "[__import__('random').random() for _ in range(3)]", "--rounds", "1"],
        ],
        env={"UNGIL_TEST_CALLS": str(tmp_path / "calls")},
    )
    assert outcome.code == 0, outcome
    assert len(set((tmp_path / "calls").read_text().splitlines())) == 3


def test_tasks_repeat_the_items_from_the_start(calls: Callable[..., Calls]) -> None:
    made = calls("note_one", "--items", "'abc'[:2].split() + [3]", "--tasks", "5")
    assert made.values == ["ab", 3, "ab", 3, "ab"]
    assert made.outcome.comparison["tasks"] == 5


def test_fewer_tasks_than_items_take_the_first(calls: Callable[..., Calls]) -> None:
    assert calls("note_one", "--items", "range(9)", "--tasks", "2").values == [0, 1]


def test_arguments_come_after_the_item(calls: Callable[..., Calls]) -> None:
    made = calls(
        "note_call", "--items", "[7, 8]", "--args", "[SIZES[0], 'fast']", "--kwargs", "{'x': None}"
    )
    assert made.values == [((7, 128, "fast"), {"x": None}), ((8, 128, "fast"), {"x": None})]


def test_keywords_alone_go_with_the_item(calls: Callable[..., Calls]) -> None:
    made = calls("note_call", "--items", "[7]", "--kwargs", '{"depth": 3}')
    assert made.values == [((7,), {"depth": 3})]


def test_without_items_every_task_is_the_same_call(calls: Callable[..., Calls]) -> None:
    made = calls("note_call", "--args", "(1, 2)", "--tasks", "3")
    assert made.values == [((1, 2), {})] * 3


def test_without_items_there_are_eight_tasks(calls: Callable[..., Calls]) -> None:
    made = calls("note_call")
    assert made.values == [((), {})] * 8


def test_a_tuple_is_one_item_and_not_several_arguments(calls: Callable[..., Calls]) -> None:
    assert calls("note_one", "--items", "[(1, 2)]").values == [(1, 2)]
