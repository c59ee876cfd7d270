"""Values on their way to a worker and back."""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import math
import pathlib
import uuid
from typing import Any

import pytest
from leftovers import wait_until

from executors import tasks
from executors.conftest import only_processes
from executors.kinds import Kind

np = pytest.importorskip("numpy")

INTEGERS = [
    *[0, 1, -1, 127, 128, -128, -129, 255, 256, 65535, 65536],
    *[2**31 - 1, 2**31, -(2**31), 2**32, 2**53 + 1],
    *[2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64, -(2**64), 10**5000],
]
FLOATS = [0.0, -0.0, 1.5, -1e308, 5e-324, math.inf, -math.inf, math.nan, 0.1]
TEXTS = ["", "a", "ä€😀", "\0", "\ud800", "a\udfffb", "x" * 300, "é" * 100_000, "\U0010ffff"]
BYTES = [b"", b"\0", bytes(range(256)), b"x" * 300, b"y" * 100_000]
SIMPLE = [None, True, False, ..., NotImplemented, 1j, complex(math.nan, -0.0)]


@pytest.mark.parametrize(
    "values", [INTEGERS, FLOATS, TEXTS, BYTES, SIMPLE], ids=["int", "float", "str", "bytes", "rest"]
)
def test_plain_values(pool: Any, values: list[Any]) -> None:
    results = [future.result() for future in [pool.submit(tasks.echo, each) for each in values]]
    for value, result in zip(values, results, strict=True):
        assert type(result) is type(value)
        if isinstance(value, float | complex):
            # The sign of zero, and what is not a number.
            assert repr(result) == repr(value)
        else:
            assert result == value


@pytest.mark.parametrize("value", [None, True, False, ..., NotImplemented], ids=repr)
def test_singletons_stay_what_they_are(pool: Any, value: Any) -> None:
    assert pool.submit(tasks.echo, value).result() is value
    assert pool.submit(tasks.echo, (value,)).result()[0] is value


@pytest.mark.parametrize(
    "value",
    [
        *[[], (), {}, set(), frozenset(), [[]], ((),), {"": {}}],
        [1, "two", 3.0, None, [b"four", (5, {6: [7]})]],
        {(1, 2): {"a": [True, None]}, 3: frozenset({4, 5}), "b": {6}},
        range(3, 9, 2),
        bytearray(b"abc"),
        collections.OrderedDict([("b", 1), ("a", 2)]),
        collections.Counter("hello"),
        collections.deque([1, 2], maxlen=3),
        collections.defaultdict(list, a=[1]),
    ],
    ids=lambda value: f"{type(value).__name__}-{len(value)}",
)
def test_containers(pool: Any, value: Any) -> None:
    result = pool.submit(tasks.echo, value).result()
    assert type(result) is type(value)
    assert result == value


@pytest.mark.parametrize(
    "value",
    [
        tasks.Point(1.0, -0.0, ["a"]),
        tasks.Frozen("a", tasks.Point(1.0, 2.0)),
        tasks.Pair(1, [2]),
        datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.UTC),
        datetime.timedelta(days=-1, microseconds=1),
        decimal.Decimal("1.10"),
        fractions.Fraction(1, 3),
        pathlib.PurePosixPath("/a/b"),
        uuid.UUID(int=5),
        tasks.Flags.A | tasks.Flags.B,
    ],
    ids=lambda value: type(value).__name__,
)
def test_objects(pool: Any, value: Any) -> None:
    result = pool.submit(tasks.echo, value).result()
    assert type(result) is type(value)
    assert result == value
    assert repr(result) == repr(value)


@pytest.mark.parametrize(
    "value",
    [tasks.Colour.RED, tasks.Number.ONE, tasks.Point, int, len, tasks.double, ValueError],
    ids=str,
)
def test_what_has_a_name_stays_what_it_is(pool: Any, value: Any) -> None:
    assert pool.submit(tasks.echo, value).result() is value


@pytest.mark.parametrize(
    "value",
    [
        tasks.Number.ONE,
        tasks.MyInt(5),
        tasks.MyFloat(1.5),
        tasks.MyStr("text"),
        tasks.MyBytes(b"bytes"),
        tasks.MyList([1]),
        tasks.MyDict(a=1),
        tasks.MyTuple((1, 2)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_subclasses_of_plain_types_stay_subclasses(pool: Any, value: Any) -> None:
    result, (nested,) = pool.submit(tasks.echo, (value, [value])).result()
    alone = pool.submit(tasks.echo, value).result()
    for each in (result, nested, alone):
        assert type(each) is type(value)
        assert each == value


def test_attributes_of_a_subclass_come_along(pool: Any) -> None:
    value = tasks.MyStr("text")
    value.label = "labelled"
    assert pool.submit(tasks.echo, value).result().label == "labelled"


def test_what_is_the_same_object_stays_the_same(pool: Any) -> None:
    shared: list[Any] = []
    first, second = pool.submit(tasks.echo, (shared, shared)).result()
    assert first is second
    (args, kwargs) = pool.submit(tasks.capture, shared, shared, again=shared).result()
    assert args[0] is args[1] is kwargs["again"]


def test_container_that_contains_itself(pool: Any) -> None:
    value: list[Any] = []
    value.append(value)
    result = pool.submit(tasks.echo, value).result()
    assert result[0] is result


def test_deep_containers(pool: Any) -> None:
    value: list[Any] = []
    for _ in range(100):
        value = [value, {"a": value[:0]}]
    assert pool.submit(tasks.echo, value).result() == value


@pytest.mark.parametrize("type_", [bytes, bytearray, str])
def test_large_values_both_ways(pool: Any, type_: type[Any]) -> None:
    value = "é" * (4 << 20) if type_ is str else type_(bytes(range(251)) * (8 << 12))
    result = pool.submit(tasks.echo, value).result()
    assert type(result) is type_
    assert result == value


def test_large_bytearray_can_be_written_to(pool: Any) -> None:
    result = pool.submit(tasks.echo, bytearray(1 << 20)).result()
    result[0] = 255
    result.append(1)
    assert len(result) == (1 << 20) + 1


def test_large_result_of_a_small_argument(pool: Any) -> None:
    assert pool.submit(tasks.make_bytes, 8 << 20).result() == tasks.make_bytes(8 << 20)


def test_many_values_in_one(pool: Any) -> None:
    value = {str(item): (item, float(item), [item]) for item in range(20_000)}
    assert pool.submit(tasks.echo, value).result() == value


# NumPy


def arrays() -> dict[str, Any]:
    """An array of every sort."""
    base = np.arange(24, dtype=np.float64).reshape(4, 6)
    read_only = base.copy()
    read_only.flags.writeable = False
    structured = np.array([(1, 2.5, "a"), (2, -0.0, "b")], dtype="i4,f8,U3")
    return {
        "one-dimensional": np.arange(10),
        "two-dimensional": base,
        "large": np.arange(200_000, dtype=np.int64),
        "fortran": np.asfortranarray(base),
        "transposed": base.T,
        "view": base[1:3, 2:5],
        "strided": base[::2, ::3],
        "reversed": base[::-1],
        "broadcast": np.broadcast_to(np.arange(6.0), (4, 6)),
        "empty": np.empty((0, 3)),
        "zero-dimensional": np.array(5.5),
        "structured": structured,
        "boolean": base > 5,
        "complex": base * 1j,
        "half": base.astype(np.float16),
        "big-endian": base.astype(">f8"),
        "text": np.array(["a", "ä€"]),
        "bytes": np.array([b"a", b"bc"]),
        "dates": np.array(["2024-02-29", "NaT"], dtype="datetime64[D]"),
        "objects": np.array([None, "a", [1], {2: 3}], dtype=object),
        "read-only": read_only,
        "masked": np.ma.masked_array([1, 2, 3], mask=[False, True, False]),
    }


def assert_same_array(result: Any, expected: Any) -> None:
    assert type(result) is type(expected)
    # NumPy's own pickling may give the machine's order of bytes instead.
    assert result.dtype in (expected.dtype, expected.dtype.newbyteorder("="))
    assert result.shape == expected.shape
    if expected.size < 1000:
        # Takes what is not a number for equal to itself.
        np.testing.assert_array_equal(result, expected)
    else:
        assert np.array_equal(result, expected)


@pytest.mark.parametrize("sort", arrays())
def test_array_comes_back_equal_and_writable(kind: Kind, pool: Any, sort: str) -> None:
    array = arrays()[sort]
    result = pool.submit(tasks.echo, array).result()
    assert_same_array(result, array)
    if kind.has_processes:
        assert result.flags.writeable
        expected = array.copy()
        result[...] = result[...].copy()
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("sort", ["two-dimensional", "large", "view", "fortran", "read-only"])
def test_worker_may_write_to_an_array_without_the_caller_seeing_it(
    kind: Kind, pool: Any, sort: str
) -> None:
    if not kind.has_processes:
        pytest.skip("threads share it")
    array = arrays()[sort]
    expected = array.copy()
    total, is_writable = pool.submit(tasks.sum_and_overwrite, array).result()
    assert (total, is_writable) == (float(expected.sum()), True)
    np.testing.assert_array_equal(array, expected)


def test_results_share_no_memory(kind: Kind, pool: Any) -> None:
    array = np.zeros(100_000)
    first, second = [pool.submit(tasks.scale, array, 1).result() for _ in range(2)]
    first[...] = 1
    assert second.sum() == array.sum() == 0
    del first
    third = pool.submit(tasks.scale, array, 3).result()
    third[...] = 3
    assert second.sum() == 0


def test_arrays_in_containers(pool: Any) -> None:
    array = np.arange(100_000)
    result = pool.submit(tasks.echo, {"a": [array, array[:10]], "b": (array,)}).result()
    assert_same_array(result["a"][0], array)
    assert_same_array(result["a"][1], array[:10])
    assert result["a"][0] is result["b"][0]


def test_array_scalars(pool: Any) -> None:
    for value in (np.float64(1.5), np.int8(-3), np.bool_(True), np.datetime64("2024-02-29")):
        result = pool.submit(tasks.echo, value).result()
        assert type(result) is type(value)
        assert result == value


def test_large_arrays_both_ways(pool: Any) -> None:
    array = np.arange(32 << 20, dtype=np.uint8)
    result = pool.submit(tasks.scale, array, 3).result()
    assert_same_array(result, array * np.uint8(3))


def test_array_outlives_its_future_and_its_executor(kind: Kind) -> None:
    with kind.make(1) as executor:
        result = executor.submit(tasks.make_array, 1 << 20).result()
    del executor
    result[0] = 7
    assert result[0] == 7
    assert result[1] == 1
    assert int(result[-1]) == ((1 << 20) - 1) % 256


def test_part_of_an_array_outlives_the_rest(pool: Any) -> None:
    part = pool.submit(tasks.make_array, 1 << 20).result()[100:200]
    for _ in range(5):
        pool.submit(tasks.make_array, 1 << 20).result()[...] = 0
    assert part.tolist() == list(range(100, 200))


def memory_bytes() -> int:
    """What this process has in memory."""
    fields = pathlib.Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096


# What a worker keeps for the next large results; more goes back to the system.
KEPT_BYTES = 128 << 20


@only_processes
def test_memory_of_results_is_returned(kind: Kind) -> None:
    size = 33 << 20
    with kind.make(1) as executor:

        def result() -> Any:
            array = executor.submit(tasks.make_array, size).result()
            # Memory that nobody has touched is not this process's yet.
            array[::4096] += 1
            return array

        before = memory_bytes()
        results = [result() for _ in range(8)]
        assert memory_bytes() - before > 7 * size
        del results
        # The worker sleeps; it is woken to give the memory back.
        wait_until(
            lambda: memory_bytes() - before < KEPT_BYTES + size,
            "the memory of results that nobody has any more is given back",
        )
        for _ in range(3):
            result()
        assert memory_bytes() - before < KEPT_BYTES + size


NESTED = [
    (),
    ((), [], {}),
    (1, 2.5, "three", b"four", None, True, -(1 << 63)),
    [[1, [2, [3]]], {"a": {"b": ("c", {1: 2, (3, 4): [5]})}}],
    {"text": "é" * 2000, "more": b"x" * 2000},
    [{"key": number} for number in range(100)],
    ["x" * 900, "y" * 900, "z" * 900],
    [1 << 64, {"ü\ud800": 1}],
]


@pytest.mark.parametrize("value", NESTED, ids=range(len(NESTED)))
def test_containers_of_plain_values(pool: Any, value: Any) -> None:
    assert pool.submit(tasks.echo, value).result() == value
    args, _ = pool.submit(tasks.capture, value, 1, value).result()
    assert list(args) == [value, 1, value]


def test_order_of_a_dict_stays(pool: Any) -> None:
    value = {"b": 1, "a": 2, 3: {"z": 1, "y": 2}}
    result = pool.submit(tasks.echo, value).result()
    assert list(result) == ["b", "a", 3]
    assert list(result[3]) == ["z", "y"]


def test_the_same_container_in_two_arguments_stays_one(pool: Any) -> None:
    shared = [1]
    args, _ = pool.submit(tasks.capture, shared, [2], {"a": shared}, (3, shared)).result()
    assert args[0] is args[2]["a"] is args[3][1]


def test_containers_that_contain_each_other(pool: Any) -> None:
    value: dict[str, Any] = {"list": []}
    value["list"].append((value,))
    result = pool.submit(tasks.echo, value).result()
    assert result["list"][0][0] is result


def test_containers_beside_values_that_are_not_plain(pool: Any) -> None:
    shared = [1]
    first, second, third = pool.submit(tasks.echo, (shared, {2}, shared)).result()
    assert first is third
    assert second == {2}
