"""Whether two results are the same: as a person would say, and never blamed on the wrong one."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import pickle
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import TARGETS, Outcome, Run
from ungil._results import same

NAN = float("nan")


class NoEquality:
    def __init__(self, value: object) -> None:
        self.value = value


class Slotted:
    __slots__ = ("one", "other")

    def __init__(self, one: object, other: object = None) -> None:
        self.one = one
        self.other = other


class SlottedToo(Slotted):
    __slots__ = ("more",)


class Opaque:
    """Has neither state that can be seen nor equality."""

    __slots__ = ()


class Unwilling:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("ask somebody else")

    __hash__ = None  # type: ignore[assignment]


class Elementwise:
    """Compares element by element, as arrays do, but is none."""

    def __init__(self, *values: int) -> None:
        self.values = values

    def __eq__(self, other: Any) -> Any:
        return [one == two for one, two in zip(self.values, other.values, strict=True)]

    __hash__ = None  # type: ignore[assignment]


class NeverEqual:
    def __init__(self, value: int) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


@dataclasses.dataclass
class Point:
    x: float
    y: float


@dataclasses.dataclass(frozen=True, slots=True)
class SlottedPoint:
    x: float
    y: float


class Custom(Exception):
    pass


def copied(value: Any) -> Any:
    """A copy as another process would send it: nothing in it is identical any more."""
    return pickle.loads(pickle.dumps(value))


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        10**40,
        1.5,
        -0.0,
        NAN,
        complex(NAN, 1),
        float("inf"),
        "text",
        b"bytes",
        bytearray(b"bytes"),
        [],
        [NAN, [NAN, (NAN,)]],
        {"a": NAN, "b": {"c": [NAN]}},
        {1, 2, 3},
        {NAN, 1.0},
        frozenset({"a", NAN}),
        {(1, 2): {3}},
        range(3),
        datetime.datetime(2024, 2, 29),
        decimal.Decimal("NaN"),
        decimal.Decimal("1.10"),
        Point(1.0, NAN),
        SlottedPoint(NAN, 2.0),
        ValueError("bad", NAN),
        NoEquality(3),
        NoEquality([NAN, NoEquality({"deep": NAN})]),
        Slotted(1, NAN),
        SlottedToo(1, [2]),
        SimpleNamespace(a=NAN),
        NeverEqual(3),
    ],
    ids=repr,
)
def test_a_copy_is_the_same(value: Any) -> None:
    assert same(value, copied(value)) is True


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 2),
        (1, None),
        (0, ""),
        (1.0, 1.0 + 1e-12),
        (NAN, 1.0),
        (complex(NAN, 1), complex(1, 1)),
        ("1", 1),
        ("a", "b"),
        (b"a", "a"),
        ([1, 2], [2, 1]),
        ([1, 2], [1, 2, 3]),
        ([1, 2], (1, 2)),
        ([NAN], [0.0]),
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": NAN}, {"a": 0.0}),
        ({"a": 1}, {"b": 1}),
        ({1, 2}, {1, 3}),
        ({1, 2}, {1}),
        ({1, 2}, {1, 2, 3}),
        (Point(1, 2), Point(1, 3)),
        (SlottedPoint(1, 2), SlottedPoint(1, 3)),
        (ValueError("a"), ValueError("b")),
        (ValueError("a"), TypeError("a")),
        (Custom("a"), ValueError("a")),
        (datetime.date(2024, 1, 1), datetime.date(2024, 1, 2)),
        (decimal.Decimal(1), decimal.Decimal(2)),
        (range(3), range(4)),
        (NeverEqual(3), NeverEqual(4)),
    ],
    ids=repr,
)
def test_a_difference_is_found_in_both_directions(one: Any, other: Any) -> None:
    assert same(one, other) is False
    assert same(other, one) is False
    assert same([0, one], [0, other]) is False
    assert same({"key": (one,)}, {"key": (other,)}) is False


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (True, 1),
        (0.0, -0.0),
        ("text", type("Text", (str,), {})("text")),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ],
    ids=repr,
)
def test_what_python_calls_equal_is_the_same(one: Any, other: Any) -> None:
    assert same(one, other) is True
    assert same(other, one) is True


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (NoEquality(1), NoEquality(2)),
        (Slotted(1), Slotted(2)),
        (Opaque(), Opaque()),
        (object(), object()),
        (Unwilling(), Unwilling()),
        (Elementwise(1, 2), Elementwise(1, 3)),
        ((item for item in [1]), (item for item in [1])),
        (lambda: 1, lambda: 1),
        (SimpleNamespace(deep=NoEquality(1)), SimpleNamespace(deep=NoEquality(2))),
    ],
    ids=[
        "no __eq__",
        "slots",
        "opaque",
        "object",
        "raising",
        "array",
        "generator",
        "lambda",
        "deep",
    ],
)
def test_what_cannot_be_told_is_not_called_different(one: Any, other: Any) -> None:
    assert same(one, other) is None
    assert same([one], [other]) is None
    assert same({"key": one}, {"key": other}) is None


def test_one_difference_decides_though_something_else_cannot_be_told() -> None:
    assert same([NoEquality(1), 1], [NoEquality(2), 2]) is False
    assert same([1, NoEquality(1)], [2, NoEquality(2)]) is False


def test_objects_of_other_classes_are_not_the_same() -> None:
    assert same(NoEquality(1), Slotted(1)) is not True


def test_the_same_object_is_the_same_whatever_its_class_says() -> None:
    for value in [NeverEqual(1), Unwilling(), Opaque(), iter([1])]:
        assert same(value, value) is True
        assert same([value], [value]) is True


def test_cyclic_structures_end() -> None:
    def cyclic(value: int) -> list[Any]:
        values: list[Any] = [value]
        values.append(values)
        return values

    assert same(cyclic(1), cyclic(1)) in (True, None)
    assert same(cyclic(1), cyclic(2)) is False
    one, other = NoEquality(1), NoEquality(1)
    one.value, other.value = one, other
    assert same(one, other) in (True, None)


def test_branching_cyclic_structures_end_soon() -> None:
    # Without a memory of what is being compared, twice as long with every level.
    def branching() -> list[Any]:
        values: list[Any] = []
        values.extend([values, values, values])
        return values

    assert same(branching(), branching()) in (True, None)


def test_shared_parts_are_compared_once() -> None:
    def shared(depth: int) -> list[Any]:
        values: list[Any] = [1]
        for _ in range(depth):
            values = [values, values]
        return values

    assert same(shared(40), shared(40)) is True


def test_deep_structures_end() -> None:
    def nested(depth: int) -> list[Any]:
        values: list[Any] = []
        for _ in range(depth):
            values = [values]
        return values

    assert same(nested(40), nested(40)) is True
    assert same(nested(5000), nested(5000)) in (True, None)


# NumPy.


@pytest.fixture
def numpy() -> Any:
    return pytest.importorskip("numpy")


def arrays(numpy: Any) -> dict[str, Any]:
    record = numpy.dtype([("name", "U4"), ("size", "f8")])
    return {
        "floats": numpy.array([1.0, NAN, 3.0]),
        "no dimension": numpy.array(NAN),
        "scalar": numpy.float64(NAN),
        "integers": numpy.arange(6).reshape(2, 3),
        "booleans": numpy.array([True, False]),
        "texts": numpy.array(["a", "bc"]),
        "complex": numpy.array([complex(NAN, 1)]),
        "times": numpy.array(["2024-01-01", "NaT"], "datetime64[D]"),
        "spans": numpy.array(["2024-01-01", "NaT"], "datetime64[s]")
        - numpy.datetime64("2023-01-01"),
        "not a time": numpy.datetime64("NaT", "s"),
        "objects": numpy.array([1, "a", NAN, None, [NAN]], dtype=object),
        "record": numpy.array([("a", NAN), ("b", 2.0)], record),
        "empty": numpy.empty((0, 3)),
        "fortran": numpy.asfortranarray(numpy.arange(6.0).reshape(2, 3)),
        "masked": numpy.ma.masked_array([1.0, 2.0], [False, True]),
    }


@pytest.mark.parametrize(
    "name",
    [
        *["floats", "no dimension", "scalar", "integers", "booleans", "texts", "complex", "times"],
        *["spans", "not a time", "objects", "record", "empty", "fortran", "masked"],
    ],
)
def test_a_copied_array_is_the_same(numpy: Any, name: str) -> None:
    array = arrays(numpy)[name]
    assert same(array, copied(array)) is True
    assert same({"deep": [array]}, {"deep": [copied(array)]}) is True


def test_arrays_that_differ_are_different(numpy: Any) -> None:
    record = numpy.dtype([("name", "U4"), ("size", "f8")])
    for one, other in [
        (numpy.array([1.0, NAN]), numpy.array([1.0, 2.0])),
        (numpy.array([1, 2]), numpy.array([1, 3])),
        (numpy.array([1, 2]), numpy.array([1.0, 2.0])),
        (numpy.zeros((2, 3)), numpy.zeros((3, 2))),
        (numpy.zeros(3), numpy.zeros(4)),
        (numpy.zeros(1), numpy.zeros(())),
        (numpy.array(["a"]), numpy.array(["b"])),
        (numpy.array([1, NAN], dtype=object), numpy.array([1, 2.0], dtype=object)),
        (numpy.array([("a", NAN)], record), numpy.array([("a", 1.0)], record)),
        (numpy.array(["NaT"], "datetime64[D]"), numpy.array(["2024-01-01"], "datetime64[D]")),
        (numpy.float64(1.0), numpy.float64(2.0)),
    ]:
        assert same(one, other) is False
        assert same([one], [other]) is False


def test_an_array_and_a_list_are_never_a_traceback(numpy: Any) -> None:
    array = numpy.array([1, 2])
    assert same(array, [1, 2]) in (True, None)
    assert same([1, 2], array) in (True, None)
    for other in [[1, 3], [1, 2, 3], None, "12", NAN]:
        assert same(array, other) is not True
        assert same(other, array) is not True


def test_a_wrapped_array_is_compared_by_its_elements(numpy: Any) -> None:
    @dataclasses.dataclass
    class Image:
        pixels: Any

    assert same(Image(numpy.array([1.0, NAN])), Image(numpy.array([1.0, NAN]))) is True
    assert same(Image(numpy.array([1.0, NAN])), Image(numpy.array([2.0, NAN]))) is False
    assert same(NoEquality(numpy.zeros(3)), NoEquality(numpy.zeros(3))) is True


# End to end.


def compare(run_ungil: Run, function: str, models: str = "threads,processes") -> Outcome:
    file = "numeric.py" if function == "arrays" else "results.py"
    return run_ungil(
        [
            *["compare", f"{TARGETS / file}:{function}", "--items", "range(5)"],
            *["--models", models, "--rounds", "1", "--budget", "6"],
        ]
    )


def states(outcome: Outcome) -> dict[str, str]:
    return {
        each["setup"]["model"]: each["agreement"]["state"]
        for each in outcome.comparison["measurements"]
    }


@pytest.mark.parametrize(
    ("function", "wrong", "right"),
    [
        ("wrong_in_threads", "threads", "processes"),
        ("wrong_in_processes", "processes", "threads"),
    ],
)
def test_one_wrong_result_in_one_model_is_reported(
    run_ungil: Run, function: str, wrong: str, right: str
) -> None:
    outcome = compare(run_ungil, function)
    assert outcome.code == 5
    assert states(outcome) == {"serial": "equal", wrong: "different", right: "equal"}
    agreement = outcome.measurement(wrong)["agreement"]
    assert (agreement["task"], agreement["tasks"]) == (3, 1)
    assert (agreement["expected"], agreement["found"]) == ("30", "31")
    (note,) = outcome.notes("results_differ")
    for words in [f"{wrong}: 1 of 5 results differ", "task 3 gave 31 instead of 30", function]:
        assert words in note
    outcome.assert_kept("serial", wrong, right)


@pytest.mark.parametrize("function", ["not_a_number", "arrays", "objects"])
def test_results_hard_to_compare_are_not_misreported(run_ungil: Run, function: str) -> None:
    outcome = compare(run_ungil, function, models="processes")
    assert outcome.code == 0, outcome
    assert set(states(outcome).values()) == {"equal"}


@pytest.mark.parametrize("function", ["varies", "random_number"])
def test_function_that_varies_by_itself_is_not_blamed_on_models(
    run_ungil: Run, function: str
) -> None:
    outcome = compare(run_ungil, function)
    assert outcome.code == 0, outcome
    assert "different" not in states(outcome).values()
    assert outcome.notes("results_differ") == []
    (note,) = outcome.notes("results_vary")
    assert "even in a serial loop" in note
