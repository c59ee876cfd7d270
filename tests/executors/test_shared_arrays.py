"""Arrays of ``ungil.empty``, which a program and its workers have in common."""

from __future__ import annotations

import concurrent.futures
import copy
import gc
import multiprocessing
import os
import pickle
import signal
from pathlib import Path
from typing import Any

import pytest
import ungil
from leftovers import wait_until
from ungil import _core

from executors import array_tasks, tasks
from executors.conftest import Make, only_processes
from executors.kinds import Kind
from executors.rendezvous import SOON_S, Gate, Mailbox

np = pytest.importorskip("numpy")

pytestmark = only_processes

LARGE = 200_000


def started(executor: Any) -> Any:
    """The executor with its workers. Those that are forks have whatever there is now."""
    executor.submit(int).result()
    return executor


def filled(shape: Any, value: Any, dtype: Any = float) -> Any:
    array = ungil.empty(shape, dtype)
    array[...] = value
    return array


@pytest.fixture(autouse=True)
def nothing_is_left() -> Any:
    """Every test gives all memory back."""
    before = _core.shared_bytes()
    yield
    gc.collect()
    wait_until(lambda: _core.shared_bytes() <= before, "shared memory is given back", 5.0)


# As they are made


STRUCTURED = np.dtype([("number", "i4"), ("text", "U3"), ("pair", "f8", 2)])


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        *[((3, 4), float), (5, "i2"), ((), complex), ((0, 3), float), (0, bool), ([2, 2], ">f4")],
        *[(7, STRUCTURED), (3, "U5"), (3, "S4"), ((2, 3, 4, 5), np.uint8), (9, "f2"), (2, "V3")],
        *[(np.int64(4), float), ((2,), np.dtype((int, (3,)))), (2, "U"), (20_000, float)],
    ],
    ids=str,
)
def test_array_is_as_one_of_numpys(shape: Any, dtype: Any) -> None:
    array, expected = ungil.empty(shape, dtype), np.empty(shape, dtype)
    assert type(array) is np.ndarray
    assert (array.shape, array.dtype) == (expected.shape, expected.dtype)
    assert array.strides == expected.strides or array.size == 0
    assert array.flags.writeable
    assert array.flags.c_contiguous
    assert array.ctypes.data % 64 == 0
    array[...] = zeros = np.zeros_like(expected)
    np.testing.assert_array_equal(array, zeros)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((-1,), ValueError, "negative"),
        (((3, -2),), ValueError, r"\(3, -2\)"),
        ((3, object), TypeError, "object"),
        ((3, [("a", "i4"), ("b", "O")]), TypeError, "objects of one process"),
        ((1.5,), TypeError, "1.5"),
        (((1, "a"),), TypeError, "shape"),
        ((3, "no type"), TypeError, "no type"),
        ((3, "datetime64[s]"), TypeError, "datetime64"),
        ((1 << 60,), MemoryError, str(8 << 60)),
        (((1 << 50, 1 << 50), "u1"), MemoryError, str(1 << 100)),
        ((1 << 45, "u1"), MemoryError, str(1 << 45)),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_what_cannot_be_an_array(arguments: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        ungil.empty(*arguments)


def test_arrays_have_memory_of_their_own() -> None:
    arrays = [filled(shape, index) for index, shape in enumerate([1, 7, 8, 9, LARGE, LARGE])]
    for index, array in enumerate(arrays):
        assert (array == index).all()
    assert len({array.ctypes.data for array in arrays}) == len(arrays)


def test_memory_lives_as_long_as_any_view_of_it() -> None:
    before = _core.shared_bytes()
    view = filled(LARGE, 1.0).reshape(-1, 100)[5:, ::2].T[3]
    others = [filled(LARGE, 2.0) for _ in range(3)]
    assert (view == 1).all()
    view = memoryview(view[:1])
    others.append(filled(LARGE, 2.0))
    assert view[0] == 1
    del view, others
    assert _core.shared_bytes() == before


# As arguments


def test_what_a_worker_writes_is_seen_here(pool: Any) -> None:
    array = filled(LARGE, 1.0)
    assert pool.submit(array_tasks.write, array, 2.0).result() == 1
    assert (array == 2).all()


def test_what_is_written_here_is_seen_in_a_worker(pool: Any, mailbox: Mailbox, gate: Gate) -> None:
    array = filled(10, 1.0)
    future = pool.submit(array_tasks.wait_and_sum, array, mailbox, gate)
    assert mailbox.take() == ["1.0"]
    array[...] = 5
    gate.open()
    assert future.result() == 50


@pytest.mark.parametrize(
    ("shape", "dtype", "view", "value"),
    [
        (1, "i8", lambda array: array, 3),
        ((), "f8", lambda array: array, 2.5),
        ((30, 40), "u1", lambda array: array, 7),
        ((30, 40), "c16", lambda array: array.T, 7j),
        ((3, 4, 5), "f4", lambda array: array[1], 7),
        (100, "f8", lambda array: array[99:], 7),
        (3, "U5", lambda array: array, "abcde"),
        (1000, ">i8", lambda array: array, -(2**40)),
        (5, bool, lambda array: array, True),
        (4, "f2", lambda array: array.view("i2")[:2], 5),
    ],
    ids=lambda value: str(value) if isinstance(value, str | tuple) else "",
)
def test_every_contiguous_array_is_shared(
    pool: Any, shape: Any, dtype: Any, view: Any, value: Any
) -> None:
    array = view(filled(shape, np.zeros((), dtype), dtype))
    pool.submit(array_tasks.write, array, value).result()
    assert (array == value).all()


def test_structured_arrays_are_shared(pool: Any) -> None:
    array = filled(3, np.zeros(1, STRUCTURED)[0], STRUCTURED)
    pool.submit(array_tasks.write, array["number"], 5).result()
    assert (array["number"] == 0).all(), "a field of them is no contiguous array"
    result = pool.submit(tasks.echo, array).result()
    assert result.dtype == STRUCTURED
    result["text"][1] = "abc"
    assert array["text"].tolist() == ["", "abc", ""]


@pytest.mark.parametrize("shape", [(0,), (3, 0, 2), 0])
def test_array_without_elements(pool: Any, shape: Any) -> None:
    array = ungil.empty(shape, "i2")
    result = pool.submit(tasks.echo, array).result()
    assert (result.shape, result.dtype) == (array.shape, array.dtype)
    assert pool.submit(array_tasks.make, shape, 0).result().shape == array.shape


def test_views_that_are_not_contiguous_are_copied(pool: Any) -> None:
    array = filled((10, 10), 1.0)
    for view in (array[::2], array[:, 1], array[::-1], array[2:4, 2:4]):
        assert pool.submit(array_tasks.write, view, 2.0).result() == 1
    assert (array == 1).all()


def test_ordinary_arrays_are_copied_beside_them(pool: Any) -> None:
    shared, ordinary = filled(LARGE, 1.0), np.ones(LARGE)
    pool.submit(array_tasks.write_all, [shared], {"a": ordinary}, 2.0).result()
    assert (shared == 2).all()
    assert (ordinary == 1).all()
    derived = shared + 1
    pool.submit(array_tasks.write, derived, 2.0).result()
    assert (derived == 3).all()


def test_array_that_is_named_several_times_is_one(pool: Any) -> None:
    array = filled(1000, 1.0)
    named = {"slice": array[10:20], "reshaped": array.reshape(10, 100), "same": array}
    assert pool.submit(array_tasks.write_all, [array, array[5:]], named, 2.0).result()


def test_many_tasks_have_the_same_array(pool: Any) -> None:
    array = filled(1000, 0.0)
    parts = [array[start : start + 10] for start in range(0, 1000, 10)]
    assert set(pool.map(array_tasks.write, parts, range(100))) == {0}
    assert (array == np.repeat(np.arange(100), 10)).all()


def test_results_of_map_are_shared_or_copied_one_by_one(pool: Any) -> None:
    array = filled((100, 10), 1.0)
    # Numbers whose bytes are all ones lie where others say what they refer to.
    assert list(pool.map(int, [-1] * 5000)) == [-1] * 5000
    results = list(pool.map(tasks.echo, [*array, *range(100), np.ones(10)]))
    for row in results[:100]:
        row += 1
    assert (array == 2).all()
    assert results[100:200] == list(range(100))


def test_read_only_view_is_shared_and_read_only(pool: Any) -> None:
    array, ordinary = filled(LARGE, 1.0), np.ones(LARGE)
    view, small = array[:], np.ones(3)
    for each in (view, ordinary, small):
        each.flags.writeable = False
    flags = pool.submit(array_tasks.is_writable, view, array, ordinary, small).result()
    # Those that are copied cannot be made writable here: that would copy the shared ones as well.
    assert flags == [False, True, False, False]
    result = pool.submit(tasks.echo, (view, lambda: 1)).result()[0]
    assert not result.flags.writeable
    array[3] = 7
    assert result[3] == 7


def test_definitions_of_main_do_not_keep_arrays_from_being_shared(pool: Any) -> None:
    array, ordinary = filled(LARGE, 1.0), np.ones(LARGE)
    ordinary.flags.writeable = False

    def fill(value: float) -> bool:
        array[...] = value
        return True

    # A function's own variables travel as definitions, and those as copies.
    assert pool.submit(fill, 2.0).result()
    assert (array == 1).all()
    write = lambda shared, other: array_tasks.write(shared, other[0] + 1)  # noqa: E731
    assert pool.submit(write, array, ordinary).result() == 1
    assert (array == 2).all()


# As results


def test_array_made_in_a_worker_is_shared_with_it(make: Make) -> None:
    executor = make(1)
    half = executor.submit(array_tasks.make_and_keep, LARGE).result()
    assert half.shape == (LARGE // 2,)
    half[3] = 7
    assert executor.submit(array_tasks.read_kept, LARGE // 2 + 3).result() == 7
    executor.submit(array_tasks.write_kept, LARGE - 1, 8.0).result()
    assert half[-1] == 8
    assert executor.submit(array_tasks.forget).result() > 0, "this process has it"
    assert half.tolist() == [1, 1, 1, 7, *[1] * (LARGE // 2 - 5), 8]
    del half
    wait_until(
        lambda: executor.submit(array_tasks.forget).result() < 8192, "the worker's memory is free"
    )


def test_argument_that_is_returned_is_the_same_memory(pool: Any) -> None:
    array = filled(LARGE, 1.0)
    result = pool.submit(tasks.echo, array).result()
    result[5] = 7
    assert array[5] == 7
    part = pool.submit(array_tasks.part, result, 4, 7).result()
    del array, result
    part[0] = 6
    assert part.tolist() == [6, 7, 1]
    again = pool.submit(tasks.echo, {"a": [part]}).result()["a"][0]
    again[1] = 8
    assert part[1] == 8


def test_array_that_a_worker_keeps_is_kept(make: Make) -> None:
    executor = started(make(1))
    before = _core.shared_bytes()
    executor.submit(array_tasks.keep, filled(LARGE, 3.0)).result()
    others = [filled(LARGE, 4.0) for _ in range(3)]
    assert executor.submit(array_tasks.read_kept, 5).result() == 3
    assert executor.submit(array_tasks.part, others[0], 0, 2).result().tolist() == [4, 4]
    del others
    gc.collect()
    assert _core.shared_bytes() - before >= LARGE * 8
    executor.submit(array_tasks.forget).result()
    wait_until(lambda: _core.shared_bytes() == before, "the worker has let go")


def test_result_outlives_its_worker_and_its_executor(kind: Kind) -> None:
    with kind.make(1) as executor:
        made = executor.submit(array_tasks.make, LARGE, 5.0).result()
        argument = filled(LARGE, 1.0)
        returned = executor.submit(tasks.echo, argument).result()
    del executor, argument
    made[0] = returned[0] = 7
    with kind.make(1) as executor:
        executor.submit(array_tasks.make, LARGE, 0.0).result()
        executor.submit(array_tasks.write, returned, 8.0).result()
    assert (returned == 8).all()
    assert (made[1:] == 5).all()


def test_array_of_a_worker_is_copied_for_another(make: Make) -> None:
    first, second = make(1), make(1)
    array = first.submit(array_tasks.make, LARGE, 1.0).result()
    for executor in (first, second):
        assert executor.submit(array_tasks.write, array, 2.0).result() == 1
    result = second.submit(tasks.echo, array).result()
    result[...] = 3
    assert (array == 1).all()


def test_worker_shares_with_its_own_workers_what_it_makes_for_them_alone(pool: Any) -> None:
    array = filled(LARGE, 1.0)
    # Its program's memory, and what it shares with that, are copied for its workers.
    assert pool.submit(array_tasks.write_in_own_worker, array).result() == (1, 1)


def test_exception_with_an_array(pool: Any) -> None:
    array = filled(LARGE, 1.0)
    error = pool.submit(array_tasks.fail_with, array).exception()
    assert type(error) is ValueError
    assert (error.args[0] == 1).all()


# Who dies, and what is left


def test_memory_stays_flat(make: Make) -> None:
    executor = started(make(2))
    before = _core.shared_bytes()
    for round_ in range(100):
        array = filled(LARGE, round_)
        assert executor.submit(array_tasks.write, array, -1).result() == round_
        made = executor.submit(array_tasks.make, LARGE, round_).result()
        assert made[-1] == round_
        del array, made
        assert _core.shared_bytes() == before
    for _ in range(4):
        assert executor.submit(array_tasks.forget).result() < 2 * LARGE * 8


def test_array_that_the_program_drops_while_a_task_has_it(
    pool: Any, mailbox: Mailbox, gate: Gate
) -> None:
    array = filled(LARGE, 2.0)
    future = pool.submit(array_tasks.wait_and_sum, array, mailbox, gate)
    waiting = pool.submit(array_tasks.wait_and_sum, array[:10], mailbox, gate)
    del array
    mailbox.take()
    others = [filled(LARGE, 3.0) for _ in range(3)]
    gate.open()
    assert (future.result(), waiting.result()) == (2 * LARGE, 20)
    del others


def test_cancelled_tasks_let_go_of_their_arrays(make: Make, gate: Gate) -> None:
    executor = started(make(1))
    before = _core.shared_bytes()
    running = executor.submit(gate.wait)
    waiting = [executor.submit(array_tasks.write, filled(LARGE, 1.0), 2) for _ in range(5)]
    assert _core.shared_bytes() > before
    # The first may be the worker's already.
    assert all([future.cancel() for future in waiting][1:])
    gate.open()
    running.result()
    concurrent.futures.wait(waiting, SOON_S)
    wait_until(lambda: _core.shared_bytes() == before, "nobody has the arrays")


def test_worker_that_is_killed_gives_back_what_it_had(
    make: Make, mailbox: Mailbox, gate: Gate
) -> None:
    executor = started(make(1))
    before = _core.shared_bytes()
    kept = filled(LARGE, 1.0)
    executor.submit(array_tasks.keep, filled(LARGE, 3.0)).result()
    future = executor.submit(array_tasks.wait_and_sum, filled(LARGE, 2.0), mailbox, gate)
    mailbox.take()
    waiting = executor.submit(array_tasks.write, kept, 4.0)
    (pid,) = executor._processes
    os.kill(pid, signal.SIGKILL)
    assert type(future.exception(SOON_S)) is ungil.WorkerCrashed
    del future
    # What it had not begun, another one does.
    assert waiting.result(SOON_S) == 1
    assert (kept == 4).all()
    del kept, waiting
    wait_until(lambda: _core.shared_bytes() == before, "the dead worker's arrays are free")


@pytest.mark.parametrize("operation", ["shutdown", "kill_workers"])
def test_executor_that_ends_gives_back_what_its_workers_had(kind: Kind, operation: str) -> None:
    before = _core.shared_bytes()
    executor = started(kind.make(1))
    executor.submit(array_tasks.keep, filled(LARGE, 3.0)).result()
    assert _core.shared_bytes() > before
    getattr(executor, operation)()
    executor.shutdown()
    wait_until(lambda: _core.shared_bytes() == before, "nobody has the array")


# Elsewhere


def test_elsewhere_it_is_an_array_like_any_other(tmp_path: Path) -> None:
    array = filled(1000, 1.0)
    path = tmp_path / "array"
    path.write_bytes(pickle.dumps(array, 5))
    copies = [
        pickle.loads(path.read_bytes()),
        copy.deepcopy(array),
        array.copy(),
        pickle.loads(pickle.dumps(array, 2)),
    ]
    for each in copies:
        each[...] = 2
    assert (array == 1).all()
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as executor:
        assert executor.submit(array_tasks.write, array, 2.0).result() == 1
    assert (array == 1).all()


def fork(check: Any) -> int:
    """Runs something in a fork of this process, whose exit code says whether it was true."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if check() else 2
        finally:
            os._exit(code)
    return pid


def test_forked_child_has_the_array_although_the_program_drops_it(kind: Kind, gate: Gate) -> None:
    before = _core.shared_bytes()
    with kind.make(1) as executor:
        arrays = [filled(LARGE, 1.0), executor.submit(array_tasks.make, LARGE, 1.0).result()]

        def check() -> bool:
            gate.wait()
            own = filled(LARGE, 5.0)
            with ungil.ProcessPoolExecutor(1) as mine:
                # Nobody else's memory is shared with the child's workers.
                assert mine.submit(array_tasks.write, own, 6.0).result() == 5
                assert mine.submit(array_tasks.write, arrays[0], 6.0).result() == 1
            assert (own == 6).all()
            return all((array == 1).all() for array in arrays)

        pid = fork(check)
        arrays.clear()
        others = [filled(LARGE, 3.0) for _ in range(3)]
        others += [executor.submit(array_tasks.make, LARGE, 3.0).result() for _ in range(3)]
        gate.open()
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        del others
    wait_until(lambda: _core.shared_bytes() == before, "what the child had is free")


def test_interpreter_ends_with_arrays_in_all_hands(
    kind: Kind, run_python: Any, tmp_path: Path
) -> None:
    path = tmp_path / "script.py"
    path.write_text(
        kind.source()
        + """
import numpy as np
import ungil

def fill(array):
    global kept
    kept = array
    array[...] = 5
    return ungil.empty(100_000)

executor = make(2)
mine = ungil.empty(100_000)
theirs = executor.submit(fill, mine).result()
future = executor.submit(fill, mine)
cycle = [mine]
cycle.append(cycle)
print(mine[7])
""",
        encoding="utf-8",
    )
    outcome = run_python([path])
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, "5.0\n", "")


def test_without_numpy_it_says_so(run_python: Any) -> None:
    code = """
import sys
sys.modules["numpy"] = None
import ungil
try:
    ungil.empty(3)
except ImportError as error:
    print(error)
"""
    outcome = run_python(["-c", code])
    assert outcome.stdout == "ungil.empty makes NumPy arrays, and NumPy is not installed\n", outcome
