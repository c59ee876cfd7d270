"""Whole programs: functions of ``__main__``, the end of the interpreter, forks and signals."""

from __future__ import annotations

import os
import re
import signal
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from conftest import Outcome, Run, Running, Start
from leftovers import wait_until

from executors.conftest import only_processes
from executors.kinds import PROCESSES, Kind


def script_of(kind: Kind, body: str) -> str:
    """A script in which ``make`` makes executors of a kind."""
    return kind.source() + textwrap.dedent(body)


@pytest.fixture
def run_script(kind: Kind, run_python: Run, tmp_path: Path) -> Any:
    """Runs a script that has to end well and say nothing but what it prints."""

    def run(body: str, **options: Any) -> str:
        path = tmp_path / "script.py"
        path.write_text(script_of(kind, body), encoding="utf-8")
        return printed(run_python([path], **options))

    return run


def printed(outcome: Outcome) -> str:
    """What a script printed that ended well."""
    assert (outcome.code, outcome.stderr) == (0, ""), outcome
    return outcome.stdout


class TestMain:
    """Functions, classes and globals of ``__main__``, with no guard around anything."""

    def test_functions_without_a_name(self, run_script: Any) -> None:
        out = run_script("""
            def make_adder(left):
                def add(right):
                    return left + right
                return add

            with make(2) as executor:
                print(executor.submit(lambda x: x + 1, 41).result())
                print(executor.submit(make_adder(40), 2).result())
                print(list(executor.map(lambda x: x * 2, range(5), chunksize=2)))
                print(executor.submit(lambda: [f() for f in [lambda: 1, lambda: 2]]).result())
        """)
        assert out == "42\n42\n[0, 2, 4, 6, 8]\n[1, 2]\n"

    def test_program_is_run_once(self, run_script: Any) -> None:
        out = run_script("""
            print("once", flush=True)

            def double(item):
                return item * 2

            executor = make(2)
            print(sorted(executor.map(double, range(4))))
        """)
        assert out == "once\n[0, 2, 4, 6]\n"

    def test_functions_call_each_other(self, run_script: Any) -> None:
        out = run_script("""
            import math

            def is_even(n):
                return True if n == 0 else is_odd(n - 1)

            def is_odd(n):
                return False if n == 0 else is_even(n - 1)

            def factorial(n):
                return math.factorial(n)

            with make(1) as executor:
                print(executor.submit(is_even, 10).result(), executor.submit(is_odd, 10).result())
                print(executor.submit(factorial, 5).result())
        """)
        assert out == "True False\n120\n"

    # Forks have what the class was when they were made.
    @pytest.mark.kinds(*[kind for kind in PROCESSES if not kind.is_fork])
    def test_arguments_of_changing_classes(self, run_script: Any) -> None:
        out = run_script("""
            import dataclasses, operator

            STEP = 1

            @dataclasses.dataclass
            class Point:
                x: int
                seen = 0
                def moved(self):
                    Point.seen += 1
                    return Point(self.x + STEP), Point.seen

            def moved(point):
                return point.moved()

            with make(1) as executor:
                # By a function of a module, and by one of the script that needs the class as well.
                moves = operator.methodcaller("moved"), moved, Point.moved
                for _ in range(2):
                    for move in moves:
                        print(*executor.submit(move, Point(1)).result())
                STEP = 10
                print(*[executor.submit(move, Point(1)).result() for move in moves])
                Point.moved = lambda self: -self.x
                print(*[executor.submit(move, Point(1)).result() for move in (*moves, Point.moved)])
                print(*executor.map(moved, [Point(1), Point(2)]))
        """)
        *before, after, changed, mapped = out.splitlines()
        assert before == [f"Point(x=2) {seen}" for seen in range(1, 7)]
        # The class is as it was, and so are its attributes here.
        assert after == "(Point(x=11), 7) (Point(x=11), 8) (Point(x=11), 9)"
        assert changed == "-1 -1 (Point(x=11), 1) -1"
        assert mapped == "-1 -2"

    def test_map_of_instances_of_several_classes(self, run_script: Any) -> None:
        out = run_script("""
            import dataclasses, enum

            @dataclasses.dataclass
            class Point:
                x: int

            class Color(enum.Enum):
                RED = 1

            class Other:
                def __repr__(self):
                    return "Other"

            items = [1, Point(1), "two", Color.RED, Point(2), (3, [4]), Other(), {"a": Color.RED}]
            with make(2) as executor:
                for count in 1, 50:
                    results = list(executor.map(repr, items * count))
                    print(results == [repr(item) for item in items * count])
                    results = list(executor.map(repr, items * count, buffersize=3))
                    print(results == [repr(item) for item in items * count])
        """)
        assert out == "True\n" * 4

    @only_processes
    def test_more_classes_than_are_remembered_with_a_function(self, run_script: Any) -> None:
        out = run_script("""
            classes = []
            for number in range(40):
                exec(f"class Class{number}: number = {number}")
                classes.append(globals()[f"Class{number}"])

            def number_of(thing):
                return thing.number

            with make(1) as executor:
                for _ in range(2):
                    futures = [executor.submit(number_of, each()) for each in classes]
                    print([future.result() for future in futures] == list(range(40)))
        """)
        assert out == "True\nTrue\n"

    def test_instances_keep_their_class(self, run_script: Any) -> None:
        out = run_script("""
            import dataclasses, enum

            class Point:
                def __init__(self, x):
                    self.x = x

            @dataclasses.dataclass
            class Pair:
                left: Point
                right: Point

            class Colour(enum.Enum):
                RED = 1

            class Trouble(Exception):
                pass

            def mirror(pair):
                assert isinstance(pair, Pair) and type(pair.left) is Point
                return Pair(pair.right, Point(-pair.left.x))

            def fail():
                raise Trouble("in vain")

            def is_red(colour):
                return colour is Colour.RED

            with make(1) as executor:
                pair = executor.submit(mirror, Pair(Point(1), Point(2))).result()
                print(type(pair) is Pair, type(pair.left) is Point, pair.left.x, pair.right.x)
                try:
                    executor.submit(fail).result()
                except Trouble as error:
                    print("caught", error)
                print(executor.submit(is_red, Colour.RED).result())
                print(executor.submit(lambda: Colour.RED).result() is Colour.RED)
        """)
        assert out == "True True 2 -1\ncaught in vain\nTrue\nTrue\n"

    def test_globals_of_the_initializer_are_seen_by_tasks(self, run_script: Any) -> None:
        out = run_script("""
            STATE = None

            def initialize(value):
                global STATE
                STATE = [value]

            def read():
                return STATE

            def append(item):
                STATE.append(item)
                return STATE

            class Reader:
                def read(self):
                    return STATE

            with make(1, initializer=initialize, initargs=("set",)) as executor:
                print(executor.submit(read).result())
                print(executor.submit(append, 1).result())
                print(executor.submit(Reader().read).result())
                print(executor.submit(lambda: STATE).result())
        """)
        assert out == "['set']\n['set', 1]\n['set', 1]\n['set', 1]\n"

    def test_globals_and_closures_are_never_stale(self, run_script: Any) -> None:
        out = run_script("""
            FACTOR = 2

            def scale(item):
                return item * FACTOR

            with make(1) as executor:
                print(executor.submit(scale, 21).result())
                FACTOR = 3
                print(executor.submit(scale, 21).result())
                print(list(executor.map(scale, range(3))))
                FACTOR = 4
                print(list(executor.map(scale, range(3))))
                for offset in (1, 2):
                    print(executor.submit(lambda: offset).result())

                def scale(item):
                    return -item

                print(executor.submit(scale, 21).result())
        """)
        assert out == "42\n63\n[0, 3, 6]\n[0, 4, 8]\n1\n2\n-21\n"

    def test_exception_shows_the_line(self, run_script: Any) -> None:
        out = run_script("""
            import traceback

            def fail():
                raise ValueError("in vain")  # this very line

            with make(1) as executor:
                try:
                    executor.submit(fail).result()
                except ValueError as error:
                    text = "".join(traceback.format_exception(error))
                    print("in fail" in text, "# this very line" in text)
        """)
        assert out == "True True\n"

    @pytest.mark.parametrize("way", ["-c", "-"])
    def test_script_that_is_no_file(self, kind: Kind, run_python: Run, way: str) -> None:
        script = script_of(
            kind,
            """
            STATE = None

            def initialize(value):
                global STATE
                STATE = value

            class Point:
                def __init__(self, x):
                    self.x = x

            def move(point):
                return Point(point.x + STATE)

            with make(2, initializer=initialize, initargs=(2,)) as executor:
                print(executor.submit(move, Point(40)).result().x)
                print(executor.submit(lambda: "lambda").result())
            """,
        )
        arguments, stdin = (["-c", script], "") if way == "-c" else (["-"], script)
        assert printed(run_python(arguments, stdin=stdin)) == "42\nlambda\n"

    def test_module_that_is_run(self, kind: Kind, run_python: Run, tmp_path: Path) -> None:
        (tmp_path / "package").mkdir()
        (tmp_path / "package" / "__init__.py").touch()
        (tmp_path / "package" / "other.py").write_text("VALUE = 40\n")
        body = """
            from .other import VALUE

            def add(item):
                return VALUE + item

            with make(1) as executor:
                print(executor.submit(add, 2).result())
                print(executor.submit(lambda: VALUE).result())
        """
        (tmp_path / "package" / "tool.py").write_text(script_of(kind, body))
        assert printed(run_python(["-m", "package.tool"], cwd=tmp_path)) == "42\n40\n"


class TestExit:
    """What happens to tasks when the interpreter ends."""

    def test_pending_tasks_are_run(self, run_script: Any) -> None:
        out = run_script("""
            import os, time

            def task(item):
                time.sleep(0.01)
                os.write(1, f"{item}\\n".encode())

            if __name__ == "__main__":
                executor = make(2)
                for item in range(12):
                    executor.submit(task, item)
                os.write(1, b"end\\n")
        """)
        assert sorted(out.split()) == sorted([*map(str, range(12)), "end"])

    def test_pending_tasks_are_run_after_shutdown_without_waiting(self, run_script: Any) -> None:
        out = run_script("""
            import os, time

            def task(item):
                time.sleep(0.01)
                os.write(1, f"{item}\\n".encode())

            if __name__ == "__main__":
                executor = make(1)
                executor.map(task, range(5))
                executor.shutdown(wait=False)
                del executor
        """)
        assert out.split() == list(map(str, range(5)))

    def test_pending_tasks_are_run_after_an_exception(
        self, kind: Kind, run_python: Run, tmp_path: Path
    ) -> None:
        body = """
            import os, sys, time

            def task(item):
                time.sleep(0.01)
                os.write(1, f"{item}\\n".encode())

            if __name__ == "__main__":
                executor = make(1)
                executor.map(task, range(3))
                sys.exit(7)
        """
        path = tmp_path / "script.py"
        path.write_text(script_of(kind, body))
        outcome = run_python([path])
        assert (outcome.code, outcome.stdout, outcome.stderr) == (7, "0\n1\n2\n", "")

    def test_callbacks_of_pending_tasks_are_called(self, run_script: Any) -> None:
        out = run_script("""
            import os, time

            def task():
                time.sleep(0.01)
                return 42

            if __name__ == "__main__":
                executor = make(1)
                future = executor.submit(task)
                future.add_done_callback(lambda each: os.write(1, f"{each.result()}\\n".encode()))
        """)
        assert out == "42\n"

    def test_nothing_is_taken_any_more(self, kind: Kind, run_python: Run, tmp_path: Path) -> None:
        body = """
            import atexit

            def run_last():
                for each in (used, unused):
                    try:
                        each.submit(int)
                    except RuntimeError as error:
                        print(error)
                    else:
                        print("was taken")

            if __name__ == "__main__":
                atexit.register(run_last)
                used, unused = make(1), make(1)
                used.submit(int).result()
        """
        path = tmp_path / "script.py"
        path.write_text(script_of(kind, body))
        # That has been shut down by now, or this.
        text = r"(cannot schedule new futures after (interpreter )?shutdown\n){2}"
        assert re.fullmatch(text, printed(run_python([path])))

    def test_daemon_thread_that_waits_for_a_result(self, run_script: Any) -> None:
        out = run_script("""
            import threading, time

            def task():
                time.sleep(0.05)

            def wait():
                waits.set()
                future.result()

            if __name__ == "__main__":
                waits = threading.Event()
                executor = make(1)
                future = executor.submit(task)
                threading.Thread(target=wait, daemon=True).start()
                waits.wait()
                print("end")
        """)
        assert out == "end\n"

    def test_executor_that_was_never_used(self, run_script: Any) -> None:
        assert run_script("executor = make(4)\nprint('end')") == "end\n"

    def test_executor_in_a_global_of_a_module(self, run_script: Any) -> None:
        out = run_script("""
            if __name__ == "__main__":
                import sys, types
                module = types.ModuleType("keeper")
                sys.modules["keeper"] = module
                module.executor = make(1)
                module.futures = [module.executor.submit(pow, 2, item) for item in range(3)]
                print(module.futures[2].result())
        """)
        assert out == "4\n"

    @only_processes
    def test_prints_of_tasks_arrive(self, run_script: Any) -> None:
        out = run_script("""
            def task(item):
                print("task", item)

            if __name__ == "__main__":
                with make(1) as executor:
                    executor.submit(task, 1).result()
                    executor.submit(task, 2)
        """)
        assert sorted(out.splitlines()) == ["task 1", "task 2"]


HELD = """
    import os, time

    def hold():
        os.write(1, b"held\\n")
        time.sleep(600)

    if __name__ == "__main__":
        first, second = make(2), make(1)
        futures = [first.submit(hold), first.submit(hold), second.submit(hold)]
        backlog = [first.submit(bytes, 1 << 20) for _ in range(20)]
        {}
"""


@pytest.mark.parametrize("wait", ["time.sleep(600)", "futures[0].result()"])
def test_nothing_is_left_when_the_program_is_killed(
    kind: Kind, start_python: Start, tmp_path: Path, wait: str
) -> None:
    path = tmp_path / "script.py"
    path.write_text(script_of(kind, HELD.format(wait)))
    # Leaving the context makes sure that nothing is left.
    with start_python([path]) as running:
        assert [read_line(running) for _ in range(3)] == ["held\n"] * 3
        running.process.kill()
        running.process.wait()


@only_processes
def test_nothing_is_left_when_everybody_else_is_killed(
    kind: Kind, start_python: Start, tmp_path: Path
) -> None:
    # Helpers that are neither the program nor workers, if there are any, are killed too.
    path = tmp_path / "script.py"
    path.write_text(
        script_of(
            kind,
            """
            import os, time
            from concurrent.futures.process import BrokenProcessPool

            def hold():
                os.write(1, b"held\\n")
                time.sleep(600)

            if __name__ == "__main__":
                executor = make(1)
                future = executor.submit(hold)
                try:
                    future.result()
                except BrokenProcessPool:
                    print("broken")
                print(executor.submit(pow, 2, 5).result())
            """,
        )
    )
    with start_python([path]) as running:
        assert read_line(running) == "held\n"
        for pid in running.leftovers.processes():
            if pid != running.process.pid:
                os.kill(pid, signal.SIGKILL)
        outcome = running.wait()
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, "broken\n32\n", "")


class TestFork:
    """A program that forks itself while it has executors."""

    def test_child_is_told_and_the_parent_goes_on(self, run_script: Any) -> None:
        out = run_script("""
            import os, signal, sys, time, warnings

            def double(item):
                return item * 2

            def hold(seconds):
                time.sleep(seconds)
                return "held"

            def attempt(name, function, *arguments):
                try:
                    function(*arguments)
                except RuntimeError as error:
                    print(name, "fork" in str(error), flush=True)
                else:
                    print(name, "went well", flush=True)

            if __name__ == "__main__":
                warnings.simplefilter("ignore", DeprecationWarning)
                executor = make(1)
                finished = executor.submit(double, 1)
                finished.result()
                running = executor.submit(hold, 0.2)
                pending = [executor.submit(double, item) for item in range(40)]
                pid = os.fork()
                if pid == 0:
                    # Whatever hangs is ended.
                    signal.alarm(20)
                    print("finished", finished.result(), flush=True)
                    attempt("submit", executor.submit, double, 2)
                    attempt("running", running.result)
                    attempt("pending", pending[-1].result)
                    attempt("map", lambda: list(executor.map(double, [1])))
                    executor.shutdown()
                    os._exit(0)
                _, status = os.waitpid(pid, 0)
                print("status", status)
                print(running.result(), [each.result() for each in pending] == [*range(0, 80, 2)])
                print(executor.submit(double, 21).result())
        """)
        assert out.splitlines() == [
            *["finished 2", "submit True", "running True", "pending True", "map True"],
            *["status 0", "held True", "42"],
        ]

    def test_child_that_ends_as_programs_do(self, run_script: Any) -> None:
        out = run_script("""
            import os, signal, sys, time, warnings

            def double(item):
                return item * 2

            if __name__ == "__main__":
                warnings.simplefilter("ignore", DeprecationWarning)
                executor = make(1)
                running = executor.submit(time.sleep, 0.1)
                pending = [executor.submit(double, item) for item in range(40)]
                pid = os.fork()
                if pid == 0:
                    signal.alarm(20)
                    sys.exit(0)
                _, status = os.waitpid(pid, 0)
                print("status", status)
                print([each.result() for each in pending] == [*range(0, 80, 2)])
        """)
        assert out == "status 0\nTrue\n"

    def test_child_makes_executors_of_its_own(self, run_script: Any) -> None:
        out = run_script("""
            import os, signal, sys, warnings

            def double(item):
                return item * 2

            if __name__ == "__main__":
                warnings.simplefilter("ignore", DeprecationWarning)
                executor = make(1)
                print(executor.submit(double, 1).result(), flush=True)
                pid = os.fork()
                if pid == 0:
                    signal.alarm(20)
                    with make(1) as own:
                        print(own.submit(double, 2).result(), flush=True)
                    sys.exit(0)
                _, status = os.waitpid(pid, 0)
                print("status", status)
                print(executor.submit(double, 3).result())
        """)
        assert out == "2\n4\nstatus 0\n6\n"


class TestSignals:
    """Ctrl-C and other signals to a program that waits."""

    WAITING = """
        import os, signal, sys, time

        # Whoever runs the tests may ignore Ctrl-C, and a program inherits that.
        signal.signal(signal.SIGINT, signal.default_int_handler)

        def hold(path):
            with open(path):
                return "through"

        def main(path):
            executor = make(1)
            future = executor.submit(hold, path)
            while not future.running():
                time.sleep(0.001)
            try:
                os.write(1, b"waiting\\n")
                future.result(*TIMEOUT)
            except KeyboardInterrupt:
                os.write(1, b"interrupted\\n")
            assert not future.done()
            with open(path, "w"):
                pass
            print(future.result())
            print(executor.submit(pow, 2, 5).result())
            executor.shutdown()

        if __name__ == "__main__":
            main(sys.argv[1])
    """

    @pytest.mark.parametrize("timeout", [(), (600,)], ids=["for ever", "for long"])
    def test_ctrl_c_interrupts_waiting(
        self, kind: Kind, start_python: Start, tmp_path: Path, timeout: tuple[int, ...]
    ) -> None:
        held = tmp_path / "held"
        os.mkfifo(held)
        path = tmp_path / "script.py"
        path.write_text(f"TIMEOUT = {timeout}\n" + script_of(kind, self.WAITING))
        with start_python([path, held]) as running:
            assert read_line(running) == "waiting\n"
            wait_until_asleep(running.process.pid)
            running.process.send_signal(signal.SIGINT)
            assert read_line(running) == "interrupted\n"
            outcome = running.wait()
        assert (outcome.code, outcome.stdout, outcome.stderr) == (0, "through\n32\n", "")

    HANDLING = """
        import os, signal, sys, time

        def hold(path):
            with open(path):
                return "through"

        def handler(*_):
            os.write(1, b"handled\\n")
            # What the task waits for.
            with open(sys.argv[1], "w"):
                pass

        if __name__ == "__main__":
            signal.signal(signal.SIGUSR1, handler)
            with make(1) as executor:
                future = executor.submit(hold, sys.argv[1])
                os.write(1, b"waiting\\n")
                print(future.result())
    """

    def test_handler_runs_while_the_program_waits(
        self, kind: Kind, start_python: Start, tmp_path: Path
    ) -> None:
        held = tmp_path / "held"
        os.mkfifo(held)
        path = tmp_path / "script.py"
        path.write_text(script_of(kind, self.HANDLING))
        with start_python([path, held]) as running:
            assert read_line(running) == "waiting\n"
            wait_until_asleep(running.process.pid)
            running.process.send_signal(signal.SIGUSR1)
            outcome = running.wait()
        assert (outcome.code, outcome.stdout, outcome.stderr) == (0, "handled\nthrough\n", "")


def read_line(running: Running) -> str:
    """The next line that a program prints, and not a byte of what follows it."""
    assert running.process.stdout is not None
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(running.process.stdout.fileno(), 1)
        assert byte, f"the program has ended: {line!r} {running.wait()}"
        line += byte
    return line.decode()


def wait_until_asleep(pid: int) -> None:
    """Waits until the main thread of a process has slept for some time, not for a moment only."""
    samples: list[bool] = []

    def sleeps() -> bool:
        stat = Path(f"/proc/{pid}/task/{pid}/stat").read_text()
        samples.append(stat.rpartition(")")[2].split()[0] == "S")
        return len(samples) >= 10 and all(samples[-10:])

    wait_until(sleeps, "the program waits")


@only_processes
def test_connection_is_an_argument(run_script: Any) -> None:
    # As in the stdlib, whose pickler knows what multiprocessing has taught it.
    out = run_script("""
        import multiprocessing

        def speak(connection):
            connection.send("heard")
            connection.close()

        if __name__ == "__main__":
            ours, theirs = multiprocessing.Pipe()
            with make(1) as executor:
                executor.submit(speak, theirs).result()
                print(ours.recv())
    """)
    assert out == "heard\n"


@only_processes
def test_child_of_a_task_takes_no_tasks(run_script: Any) -> None:
    out = run_script("""
        import os

        def fork(number):
            os.fork()
            return number

        if __name__ == "__main__":
            with make(2) as executor:
                print(list(executor.map(fork, range(20))) == list(range(20)))
                print(list(executor.map(abs, range(20))) == list(range(20)))
    """)
    assert out == "True\nTrue\n"


def test_program_is_run_by_this_interpreter(run_script: Any) -> None:
    out = run_script("""
        import sys

        def executable():
            return sys.executable, sys.prefix

        with make(1) as executor:
            print(*executor.submit(executable).result())
    """)
    assert out.split() == [sys.executable, sys.prefix]


class TestDaemonThreads:
    """Threads that the interpreter leaves to themselves at its end."""

    def test_that_submit_and_wait_do_not_abort_it(self, run_script: Any) -> None:
        script = """
            import threading, time

            executor = make(2)
            executor.submit(abs, 1).result()

            def work():
                while True:
                    try:
                        executor.submit(time.sleep, 0.001).result()
                    except RuntimeError:
                        return

            for _ in range(4):
                threading.Thread(target=work, daemon=True).start()
            time.sleep(0.1)
            print("end")
        """
        assert run_script(script) == "end\n"

    @only_processes
    def test_that_pickle_do_not_abort_it(self, run_script: Any) -> None:
        script = """
            import sys, threading, time

            class Slow:
                def __del__(self, sleep=time.sleep):
                    sleep(0.5)

            class Argument:
                def __reduce__(self):
                    pickling.set()
                    time.sleep(0.2)
                    return int, ()

            pickling = threading.Event()
            executor = make(1)
            executor.submit(abs, 1).result()
            sys.slow = Slow()  # the interpreter takes its time to end
            threading.Thread(target=lambda: executor.submit(abs, Argument()), daemon=True).start()
            pickling.wait()
            print("end")
        """
        assert run_script(script) == "end\n"


@only_processes
def test_memory_goes_with_a_pool_that_was_shut_down(run_script: Any) -> None:
    out = run_script("""
        import time

        def shared_bytes():
            with open("/proc/self/status") as status:
                fields = dict(line.split(":", 1) for line in status)
            return int(fields["RssShmem"].split()[0]) * 1024

        with make(1) as executor:
            for _ in range(3):
                executor.submit(len, bytes(20 << 20)).result()
        del executor
        # The pool's own thread lets go of it last.
        give_up_at = time.monotonic() + 10
        while shared_bytes() > 10 << 20 and time.monotonic() < give_up_at:
            time.sleep(0.01)
        print(shared_bytes() < 10 << 20)
    """)
    assert out == "True\n"
