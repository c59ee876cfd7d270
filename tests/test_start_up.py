"""What the way to the first result is kept free of."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ungil
from conftest import Run
from leftovers import wait_until

MODULES = "' '.join(__import__('sys').modules)"


def modules(*before: str) -> set[str]:
    """The modules of a fresh interpreter that has run some statements."""
    code = "; ".join([*before, "import sys", "print(*sys.modules)"])
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


def program(folder: Path, body: str) -> Path:
    path = folder / "script.py"
    path.write_text(f"import ctypes, os, sys, threading, ungil\n{body}\n")
    return path


def test_import_of_the_package_imports_nothing_else() -> None:
    assert modules("import ungil") - modules() == {"__future__", "ungil"}


def test_import_of_an_executor_imports_what_the_standard_library_does() -> None:
    stdlib = modules("import concurrent.futures.process, multiprocessing")
    more = modules("from ungil import ProcessPoolExecutor") - stdlib
    assert {each for each in more if not each.startswith("ungil")} <= {"__future__", "gc"}


def test_first_worker_has_imported_little(run_python: Run, tmp_path: Path) -> None:
    ask = f"print(ungil.ProcessPoolExecutor(1).submit(eval, {MODULES!r}).result())"
    script = program(tmp_path, ask)
    outcome = run_python([script])
    assert (outcome.code, outcome.stderr) == (0, ""), outcome
    more = set(outcome.stdout.split()) - modules()
    assert more <= {
        *("__future__", "_locale", "_thread", "atexit", "gc", "marshal", "resource", "time"),
        *("ungil", "ungil._core", "ungil._likeness", "ungil._postponed", "ungil._worker"),
        "ungil._zygote",
        # Those that have not been run.
        *("multiprocessing", "multiprocessing.reduction"),
    }


def test_later_workers_have_what_most_of_them_import() -> None:
    def has_it() -> bool:
        # A new pool has a new worker, forked by the same zygote.
        with ungil.ProcessPoolExecutor(1) as executor:
            names = executor.submit(eval, MODULES).result().split()
        return {"pickle", "re", "threading", "multiprocessing.process"} <= set(names)

    wait_until(has_it, "the zygote has imported it")


def test_program_is_not_copied_to_start_a_zygote(run_python: Run, tmp_path: Path) -> None:
    script = program(
        tmp_path,
        """
libc = ctypes.CDLL(None)
copied = []
count = ctypes.CFUNCTYPE(None)(lambda: copied.append(1))
libc.__register_atfork(count, None, None, None)
if (child := os.fork()) == 0:
    os._exit(0)
os.waitpid(child, 0)
print(len(copied))
with ungil.ProcessPoolExecutor(1) as executor:
    executor.submit(abs, -1).result()
print(len(copied))
""",
    )
    outcome = run_python([script])
    if "__register_atfork" in outcome.stderr:
        pytest.skip("this system's library does not tell of forks")
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, "1\n1\n", "")


def test_zygote_comes_up_while_the_first_function_is_written_down(
    run_python: Run, tmp_path: Path
) -> None:
    script = program(
        tmp_path,
        """
def children():
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return len(file.read().split())

class Function:
    def __call__(self):
        return 42
    def __reduce__(self):
        print(children())
        return Function, ()

with ungil.ProcessPoolExecutor(1) as executor:
    print(children())
    print(executor.submit(Function()).result())
""",
    )
    outcome = run_python([script])
    assert (outcome.code, outcome.stderr) == (0, ""), outcome
    first, *during, last = outcome.stdout.split()
    assert (first, set(during), last) == ("0", {"1"}, "42")


def test_multiprocessing_knows_who_a_worker_is_when_it_is_asked_late() -> None:
    ask = "[__import__('multiprocessing').current_process().name, __import__('os').getpid()]"
    with ungil.ProcessPoolExecutor(1) as executor:
        name, pid = executor.submit(eval, ask).result()
        assert name == f"UngilProcess-{pid}"
        parent = "__import__('multiprocessing').parent_process().pid"
        assert executor.submit(eval, parent).result() == os.getpid()


def first_name_in_a_fork(_: object) -> str:
    reading, writing = os.pipe()
    if os.fork() == 0:
        import multiprocessing

        os.write(writing, multiprocessing.current_process().name.encode())
        os._exit(0)
    os.close(writing)
    os.wait()
    name = os.read(reading, 100).decode()
    os.close(reading)
    return f"{name} {os.getpid()}"


def test_fork_of_a_worker_asks_multiprocessing_first() -> None:
    with ungil.ProcessPoolExecutor(1) as executor:
        name, pid = executor.submit(first_name_in_a_fork, None).result().split()
    assert name == f"UngilProcess-{pid}"


class Outer:
    class Inner:
        def __init__(self, number: int) -> None:
            self.number = number

    @staticmethod
    def double(number: int) -> int:
        return 2 * number


ÜMLAUT = "x" * 200


def ünter(number: int) -> int:
    return number + len(ÜMLAUT)


@pytest.mark.parametrize(
    ("function", "argument", "result"),
    [(abs, -1, 1), (Outer.double, 21, 42), (ünter, 1, 201), (os.path.basename, "/a/b", "b")],
)
def test_functions_are_found_by_their_names(
    function: Callable[[Any], object], argument: object, result: object
) -> None:
    with ungil.ProcessPoolExecutor(1) as executor:
        assert executor.submit(function, argument).result() == result


def test_classes_are_found_by_their_names() -> None:
    with ungil.ProcessPoolExecutor(1) as executor:
        assert executor.submit(Outer.Inner, 42).result().number == 42
