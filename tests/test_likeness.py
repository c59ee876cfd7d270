"""Workers look like forks of the process that has the pool, though they are none.

A program writes down all that a plain fork of it sees (``targets/visible.py``), and all that workers
see, in many settings. `DIFFERENCES` says what may differ, and why; nothing else may.
"""

from __future__ import annotations

import fnmatch
import json
import os
import pty
import re
import select
import sys
import textwrap
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import ungil
from conftest import TARGETS, Outcome, Run, Start
from leftovers import wait_until

SCRIPT = str(TARGETS / "lookalikes.py")
PACKAGES = str(Path(ungil.__file__).parents[1])

Seen = Mapping[str, str]


@dataclass(frozen=True)
class Difference:
    """Something that a worker sees otherwise than a fork.

    Attributes:
        name: Its name, or a pattern of names.
        reason: Why that is right.
        is_right: Whether what they see is as it should be: the fork and the worker.
        workers: The start methods of which this is true.
        only: The setting of which this is true, if it is one.
    """

    name: str
    reason: str
    is_right: Callable[[str | None, str | None], bool]
    workers: tuple[str, ...] = ("zygote", "fork")
    only: str | None = None


def differs(ours: str | None, theirs: str | None) -> bool:
    return ours != theirs


def matches(pattern: str) -> Callable[[str | None, str | None], bool]:
    return lambda ours, theirs: re.fullmatch(pattern, str(theirs), re.DOTALL) is not None


def is_own(ours: str | None, theirs: str | None) -> bool:
    """Whether a worker's descriptor is one of ungil's, and none by which others are held."""
    kinds = r"\('(/memfd:ungil \(deleted\)|anon_inode:\[(eventfd|pidfd)\])'.*False\)"
    return theirs is None or re.fullmatch(kinds, theirs) is not None


def is_own_or_inherited(ours: str | None, theirs: str | None) -> bool:
    kinds = r"\('(/memfd:ungil \(deleted\)|anon_inode:\[(eventfd|pidfd)\]|socket:.*)'.*False\)"
    return theirs is None or re.fullmatch(kinds, theirs) is not None


DEFAULT = matches(r"\('default', '(Handlers.SIG_DFL|0)'\)")

DIFFERENCES = [
    Difference("pid", "It is another process.", differs),
    Difference("parent", "The zygote starts workers, so that the program never forks.", differs),
    Difference(
        "command line", "The zygote was executed, and has this one.", differs, workers=("zygote",)
    ),
    Difference(
        "descriptor *",
        "What the program has open for itself stays with it, as in any process that is not its "
        "fork; give files to workers as arguments. What workers have of ungil's own is theirs alone.",
        is_own,
        workers=("zygote",),
    ),
    Difference(
        "descriptor *",
        "A fork of the program has what the program has, that of ungil's included.",
        is_own_or_inherited,
        workers=("fork",),
    ),
    Difference(
        "standard descriptor ?",
        "Where the program has no such stream, what it opens for itself may be in its place.",
        lambda ours, theirs: theirs is None and "False)" in str(ours),
    ),
    Difference(
        "threading.stack_size()",
        "To ask the parent for it would change it there for a moment, for all threads.",
        matches("0"),
        workers=("zygote",),
    ),
    Difference(
        "prctl pdeathsig",
        "The system kills workers when the zygote has died: nobody is left to end them.",
        matches(r"\(0, b'\\t'\)"),
    ),
    Difference("random", "Two processes must not draw the same numbers.", differs),
    Difference("random of the system", "Nobody draws the same numbers.", differs),
    Difference(
        "hash of *",
        "Nobody can be given the secret for hashes that the program drew at its start. Workers "
        "agree on one; set PYTHONHASHSEED for one that the program has too.",
        differs,
        workers=("zygote",),
    ),
    Difference(
        "gc frozen",
        "What the zygote has is never freed; so its memory stays shared.",
        matches("True"),
        workers=("zygote",),
    ),
    Difference(
        "multiprocessing name", "So a worker can be told in a log.", matches(r"UngilProcess-\d+")
    ),
    Difference(
        "multiprocessing parent",
        "Workers are children in the sense of multiprocessing too.",
        matches("<_ParentProcess name='MainProcess' parent=None unknown>"),
    ),
    Difference(
        "signal SIGINT",
        "Ctrl-C ends the task that runs, and leaves workers alone that wait.",
        matches(r"\('caught', 'ungil\._worker\._handle_interrupts\.<locals>\.handle'\)"),
    ),
    Difference(
        "signals blocked",
        "Which are blocked depends on the thread that happened to start the worker; one in which "
        "SIGTERM is blocked could not be ended.",
        matches("0{16}"),
    ),
    Difference(
        "signal SIG*",
        "Handlers are functions of the program's, made for its process. Workers have the system's; "
        "what the program ignores they ignore too.",
        lambda ours, theirs: "caught" in str(ours) and DEFAULT(ours, theirs),
        workers=("zygote",),
    ),
    Difference(
        "sys.flags.in*",
        "-i would make workers import readline, and nobody types at them.",
        matches("0"),
        workers=("zygote",),
        only="-i",
    ),
    *(
        Difference(
            name,
            "It is made of objects of the program's own, which do not travel. The initializer can "
            "do the same in workers.",
            differs,
            workers=("zygote",),
            only="objects",
        )
        for name in (
            "decimal",
            "logging",
            "sys.excepthook",
            "sys.getprofile()",
            "sys.meta_path",
            "sys.path_hooks",
            "sys.stdout*",
        )
    ),
    *(
        Difference(
            name,
            "What the interpreter does at its start has started a thread, so that workers are "
            "executed and do it too, each for itself.",
            matches(pattern),
            workers=("zygote",),
            only="site starts a thread",
        )
        for name, pattern in (
            ("threads", "2"),
            ("threads of Python", r"\['MainThread', 'from-site'\]"),
        )
    ),
]


def rendered(differences: Sequence[Difference]) -> str:
    """The differences that are allowed, for reading."""
    lines = []
    for each in differences:
        where = "/".join(each.workers) + (f", only {each.only!r}" if each.only else "")
        text = textwrap.wrap(each.reason, 96, initial_indent="    ", subsequent_indent="    ")
        lines += [f"{each.name} ({where})", *text]
    return "\n".join(lines)


def surprises(setting: str, worker: str, ours: Seen, theirs: Seen) -> list[str]:
    """What a worker sees otherwise than a fork, and should not."""
    method = worker.split()[0]
    allowed = [
        each for each in DIFFERENCES if method in each.workers and each.only in (None, setting)
    ]
    found = []
    for name in sorted({*ours, *theirs}):
        one, other = ours.get(name), theirs.get(name)
        if one != other and not any(
            fnmatch.fnmatchcase(name, each.name) and each.is_right(one, other) for each in allowed
        ):
            found.append(f"{name}: a fork sees {one}, a worker ({worker}) sees {other}")
    return found


# Runs before the program is executed, in its process.
_LAUNCH = "import os, sys; {}; os.execv(sys.argv[1], sys.argv[1:])"


@dataclass(frozen=True)
class Setting:
    """How the program is started, and what it changes.

    Attributes:
        flags: Arguments of the interpreter.
        env: Variables that it is started with.
        early: What it changes before it has a pool.
        late: What it changes when it has had one.
        launch: What its process does before it is executed.
        options: Arguments of ``Popen``.
        check: Expectations of what workers see, beyond that it is what a fork sees.
    """

    flags: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    early: str = ""
    late: str = ""
    launch: str = "pass"
    options: Mapping[str, Any] = field(default_factory=dict)
    check: Mapping[str, str] = field(default_factory=dict)


_MANY_OPTIONS = "utf8 int_max_str_digits=5000 no_debug_ranges faulthandler mine=5"
_SIGNALS = "import signal; "

SETTINGS = {
    "plain": Setting(),
    "-O -B -s -q -d": Setting(("-O", "-B", "-s", "-q", "-d"), check={"sys.flags.optimize": "1"}),
    "-OO -P -u -bb": Setting(("-OO", "-P", "-u", "-bb"), check={"sys.flags.optimize": "2"}),
    "-W": Setting(
        ("-W", "error", "-W", "ignore::DeprecationWarning:json", "-W", "once::nowhere.Absent"),
        check={
            "sys.warnoptions": repr(
                ["error", "ignore::DeprecationWarning:json", "once::nowhere.Absent"]
            )
        },
    ),
    "-X dev": Setting(("-X", "dev"), check={"sys.flags.dev_mode": "True"}),
    "-X": Setting(tuple(f"-X{option}" for option in _MANY_OPTIONS.split())),
    "-E": Setting(("-E",), env={"PYTHONHASHSEED": "5", "PYTHONOPTIMIZE": "2"}),
    "-I": Setting(("-I",), check={"sys.flags.isolated": "1"}),
    "-S": Setting(("-S",), env={"PYTHONPATH": PACKAGES}, check={"sys.flags.no_site": "1"}),
    "-i": Setting(("-i",)),
    "PYTHONHASHSEED=0": Setting(env={"PYTHONHASHSEED": "0"}),
    "variables": Setting(
        env={
            "PYTHONHASHSEED": "5",
            "PYTHONPATH": f"relative{os.pathsep}/nowhere{os.pathsep}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "PYTHONWARNINGS": "error::UserWarning,default::DeprecationWarning",
            "PYTHONIOENCODING": "latin-1:replace",
            "PYTHONINTMAXSTRDIGITS": "7000",
            "PYTHONNOUSERSITE": "1",
            "PYTHONFAULTHANDLER": "1",
        }
    ),
    "PYTHONUTF8, PYTHONDEVMODE": Setting(env={"PYTHONUTF8": "1", "PYTHONDEVMODE": "1"}),
    "LC_ALL=C": Setting(env={"LC_ALL": "C"}),
    "LC_ALL=C, not coerced": Setting(
        ("-Xutf8=0",), env={"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    ),
    "LC_ALL=C.UTF-8": Setting(env={"LC_ALL": "C.UTF-8"}),
    "changes, early": Setting(early="everything_of_the_interpreter everything_of_the_process"),
    "changes, late": Setting(late="everything_of_the_interpreter everything_of_the_process"),
    "variables, early": Setting(
        env={"PYTHONHASHSEED": "5", "PYTHONPATH": "/nowhere"}, early="variables_of_interpreters"
    ),
    "variables, late": Setting(late="variables_of_interpreters"),
    "signals, early": Setting(early="signals"),
    "signals, late": Setting(late="signals"),
    "folder removed, early": Setting(early="remove_folder"),
    "folder removed, late": Setting(late="remove_folder"),
    "handlers, early": Setting(early="handlers descriptors"),
    "handlers, late": Setting(late="handlers descriptors"),
    "rights, early": Setting(early="rights"),
    "rights, late": Setting(late="rights"),
    "objects": Setting(late="objects"),
    "no stdin": Setting(launch="os.close(0)", check={"sys.stdin": "None"}),
    "no streams": Setting(launch="[os.close(number) for number in range(3)]"),
    "no streams, late": Setting(launch="os.closerange(0, 3)", late="everything_of_the_process"),
    "stdout is a file": Setting(launch="os.dup2(os.open('out', os.O_CREAT | os.O_RDWR), 1)"),
    "background": Setting(
        launch=_SIGNALS + "[signal.signal(each, signal.SIG_IGN) for each in (1, 2, 3, 17)]",
        check={"signal SIGINT": "('ignored', '1')"},
    ),
    "signals blocked": Setting(
        launch=_SIGNALS + "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))"
    ),
}


def assert_alike(
    run_python: Run, folder: Path, name: str, setting: Setting, python: str = sys.executable
) -> dict[str, dict[str, str]]:
    """Runs the program in a setting, and asserts that there is no surprise."""
    result = folder / "result.json"
    outcome = run_python(
        [
            "-ISc",
            _LAUNCH.format(setting.launch),
            python,
            *setting.flags,
            SCRIPT,
            result,
            setting.early,
            setting.late,
        ],
        env=setting.env,
        **setting.options,
    )
    assert outcome.code == 0, outcome
    seen = json.loads(result.read_text(encoding="utf-8", errors="surrogateescape"))
    fork = seen.pop("child")
    found = [
        each for worker, theirs in seen.items() for each in surprises(name, worker, fork, theirs)
    ]
    if found:
        print("Allowed is:", rendered(DIFFERENCES), sep="\n")
        pytest.fail("\n".join(found))
    for what, value in setting.check.items():
        assert seen["zygote"][what] == value
    return seen


def can_import_in_removed_folder(run_python: Run) -> bool:
    """Whether a module may lack an attribute there: in 3.13.0 that is a SystemError."""
    code = """
        import json, os

        os.mkdir("removed")
        os.chdir("removed")
        os.rmdir("../removed")
        try:
            json.absent
        except AttributeError:
            pass
    """
    return run_python(["-c", textwrap.dedent(code)]).code == 0


@pytest.mark.parametrize("name", SETTINGS)
def test_workers_look_like_forks(run_python: Run, tmp_path: Path, name: str) -> None:
    setting = SETTINGS[name]
    if "rights" in setting.early + setting.late and os.geteuid() != 0:
        pytest.skip("only root can give rights up")
    if "remove_folder" in setting.early + setting.late and not can_import_in_removed_folder(
        run_python
    ):
        pytest.skip("this interpreter cannot import in a folder that was removed")
    seen = assert_alike(run_python, tmp_path, name, setting)
    if "zygote again" in seen:
        one, other = seen["zygote"], seen["zygote again"]
        assert one["random"] != other["random"]
        assert one["hash of a string"] == other["hash of a string"]


def write_site(folder: Path, body: str) -> Path:
    """A folder with a module that an interpreter runs at its start."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(textwrap.dedent(body))
    return folder


def test_venv_with_an_import_hook(run_python: Run, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", symlinks=True)
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (packages / "hooked.py").write_text(
        "import sys\n\n\nclass Hook:\n    @staticmethod\n    def find_spec(*arguments):\n"
        "        return None\n\n\nsys.meta_path.insert(0, Hook)\n"
    )
    (packages / "a.pth").write_text(f"{PACKAGES}\nimport hooked\n")
    # It must not come before the standard library in the zygote either.
    (packages / "socket.py").write_text("raise AssertionError('not that one')\n")
    python = str(tmp_path / "venv/bin/python")
    seen = assert_alike(run_python, tmp_path, "venv", Setting(), python)
    assert seen["zygote"]["sys.prefix"] == str(tmp_path / "venv")
    assert seen["zygote"]["sys.executable"] == python
    assert seen["zygote"]["sys.meta_path"].startswith("['hooked.Hook', ")


def test_start_of_the_interpreter_starts_a_thread(run_python: Run, tmp_path: Path) -> None:
    site = write_site(
        tmp_path / "site",
        """
        import threading, time

        threading.Thread(target=time.sleep, args=(1e6,), name="from-site", daemon=True).start()
        """,
    )
    setting = Setting(env={"PYTHONPATH": str(site)})
    assert_alike(run_python, tmp_path, "site starts a thread", setting)


def test_terminal(start_python: Start, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    launch = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)"
    options = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    try:
        setting = Setting(launch=launch, options={**options, "start_new_session": True})
        seen = assert_alike(wait_for(start_python), tmp_path, "terminal", setting)
    finally:
        os.close(ours)
        os.close(theirs)
    assert seen["zygote"]["sys.stdout.isatty()"] == "True"
    assert seen["zygote"]["terminal"] == "None"


def wait_for(start_python: Start) -> Any:
    """Runs a program whose streams are not pipes."""

    def run(arguments: Sequence[Any], **options: Any) -> Any:
        with start_python(arguments, **options) as running:
            return Outcome(running.process.wait(60), "", "", None)

    return run


def test_modules_of_the_current_folder_are_not_imported(run_python: Run, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    for name in ("random", "socket", "types", "signal", "ungil", "threading", "pickle"):
        (tmp_path / "here" / f"{name}.py").write_text("raise AssertionError('not that one')\n")
    (tmp_path / "script.py").write_text(
        "import ungil\n\nwith ungil.ProcessPoolExecutor(1) as executor:\n"
        "    print(executor.submit(abs, -42).result())\n"
    )
    outcome = run_python([tmp_path / "script.py"], cwd=tmp_path / "here")
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, "42\n", "")


def test_interpreter_that_does_not_know_its_program(run_python: Run, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import sys
        import ungil

        program, sys.executable = sys.executable, ""
        with ungil.ProcessPoolExecutor(1) as executor:
            print(executor.submit(abs, -1).exception())
        sys.executable = program
        with ungil.ProcessPoolExecutor(1) as executor:
            print(executor.submit(abs, -1).result())
        """)
    )
    outcome = run_python([script])
    assert (outcome.code, outcome.stderr) == (0, ""), outcome
    error, result = outcome.stdout.splitlines()
    assert "sys.executable does not say which interpreter this is" in error
    assert result == "1"


def test_folder_of_compiled_modules(run_python: Run, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import sys
        import ungil

        def folder():
            return sys.pycache_prefix

        with ungil.ProcessPoolExecutor(1) as executor:
            print(executor.submit(folder).result())
        sys.pycache_prefix = "other"
        with ungil.ProcessPoolExecutor(1) as executor:
            print(executor.submit(folder).result())
        """)
    )
    compiled = tmp_path / "compiled"
    outcome = run_python(["-X", f"pycache_prefix={compiled}", script])
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, f"{compiled}\nother\n", "")


_WITH_POOL = """
import os, signal, sys, time
import ungil

executor = ungil.ProcessPoolExecutor(1)
executor.submit(abs, -1).result()
"""


def write_script(folder: Path, body: str) -> Path:
    path = folder / "script.py"
    path.write_text(_WITH_POOL + textwrap.dedent(body))
    return path


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)", "pass"])
def test_reader_sees_the_end_of_the_program(
    start_python: Start, tmp_path: Path, stream: str, end: str
) -> None:
    script = write_script(tmp_path, f"print('here', file=sys.{stream}, flush=True)\n{end}\n")
    with start_python([script]) as running:
        # It is at its end only when nobody has it open any more.
        assert getattr(running.process, stream).read() == "here\n"


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
def test_reader_sees_the_end_when_the_program_closes_a_stream(
    start_python: Start, tmp_path: Path, stream: str
) -> None:
    number = ("stdin", "stdout", "stderr").index(stream)
    told = 1 if number != 1 else 2
    script = write_script(
        tmp_path,
        f"""
        executor.shutdown()
        os.close({number})
        os.write({told}, b"closed\\n")
        time.sleep(1000)
        """,
    )
    with start_python([script]) as running:
        process = running.process
        teller = process.stdout if told == 1 else process.stderr
        assert teller is not None
        assert teller.readline() == "closed\n"
        if number == 0:
            # Whoever writes to it gets to know that nobody reads.
            assert process.stdin is not None
            poll = select.poll()
            poll.register(process.stdin, 0)
            assert poll.poll(10_000) == [(process.stdin.fileno(), select.POLLERR)]
        else:
            assert getattr(process, stream).read() == ""
        # The zygote is still there.
        assert len(running.leftovers.children(process.pid)) == 1
        process.kill()


def test_descriptors_that_others_inherit(start_python: Start, tmp_path: Path) -> None:
    script = write_script(
        tmp_path,
        """
        executor.shutdown()
        reading, writing = os.pipe()
        os.set_inheritable(writing, True)
        # A fresh zygote, started while the pipe is open for others.
        import multiprocessing

        spawned = ungil.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        spawned.submit(abs, -1).result()
        os.close(writing)
        print(os.read(reading, 1))
        """,
    )
    with start_python([script]) as running:
        outcome = running.wait()
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, "b''\n", "")


def test_hang_up_of_the_terminal(start_python: Start, tmp_path: Path) -> None:
    script = write_script(
        tmp_path,
        """
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        ignoring = ungil.ProcessPoolExecutor(1)
        ignoring.submit(abs, -1).result()
        os.killpg(0, signal.SIGHUP)
        print(ignoring.submit(abs, -42).result())
        """,
    )
    with start_python([script], start_new_session=True) as running:
        outcome = running.wait()
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, "42\n", "")


def test_forks_end_with_their_executors(start_python: Start, tmp_path: Path) -> None:
    script = write_script(
        tmp_path,
        """
        import multiprocessing

        executor.shutdown()
        context = multiprocessing.get_context("fork")
        executors = [ungil.ProcessPoolExecutor(1, mp_context=context) for _ in range(3)]
        for each in executors:
            each.submit(abs, -1).result()
        # The last ones have copies of what the first have open.
        for each in executors:
            each.shutdown()
            print("shut down", flush=True)
        sys.stdin.read()
        """,
    )
    with start_python([script]) as running:
        process = running.process
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(3)] == ["shut down\n"] * 3
        # One is left: the zygote that is no fork.
        wait_until(
            lambda: len(running.leftovers.children(process.pid)) == 1, "the forks have ended"
        )
        assert running.wait("").code == 0


def test_multiprocessing_in_a_worker(run_python: Run, tmp_path: Path) -> None:
    script = write_script(
        tmp_path,
        """
        def names(_):
            import multiprocessing.reduction, threading

            found = []
            get = lambda: found.append(multiprocessing.reduction.ForkingPickler.__name__)
            threads = [threading.Thread(target=get) for _ in range(4)]
            [each.start() for each in threads]
            [each.join() for each in threads]
            return {*found, type(multiprocessing.reduction).__name__}

        def changed(_):
            import multiprocessing.reduction

            multiprocessing.reduction.HAVE_SEND_HANDLE = "changed"
            return multiprocessing.reduction.HAVE_SEND_HANDLE, hasattr(
                multiprocessing.reduction, "absent"
            )

        def sends(_):
            import multiprocessing

            ours, theirs = multiprocessing.Pipe()
            with multiprocessing.Lock():
                ours.send({"value": 42})
            return theirs.recv(), multiprocessing.context.reduction.__name__

        for each in (names, changed, sends):
            with ungil.ProcessPoolExecutor(1) as executor:
                print(sorted(map(str, executor.submit(each, None).result())))
        """,
    )
    outcome = run_python([script])
    assert (outcome.code, outcome.stderr) == (0, ""), outcome
    assert outcome.stdout.splitlines() == [
        "['ForkingPickler', 'module']",
        "['False', 'changed']",
        "['multiprocessing.reduction', \"{'value': 42}\"]",
    ]


@pytest.mark.parametrize("method", ["None", "multiprocessing.get_context('fork')"])
def test_program_that_ignores_the_end_of_its_children(
    run_python: Run, tmp_path: Path, method: str
) -> None:
    script = write_script(
        tmp_path,
        f"""
        import multiprocessing

        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        for _ in range(2):
            # The second time in a zygote that was started while it was ignored.
            with ungil.ProcessPoolExecutor(1, mp_context={method}) as executor:
                print(executor.submit(os.kill, 0, 0).exception())
                print(executor.submit(os.abort).exception())
        """,
    )
    launch = "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)"
    outcome = run_python(["-ISc", _LAUNCH.format(launch), sys.executable, script])
    assert (outcome.code, outcome.stderr) == (0, ""), outcome
    lines = outcome.stdout.splitlines()
    assert len(lines) == 4
    assert lines[0] == lines[2] == "None"
    assert all("SIGABRT" in line for line in lines[1::2]), lines


def test_values_of_types_of_the_programs_own(run_python: Run, tmp_path: Path) -> None:
    script = write_script(
        tmp_path,
        """
        import pathlib

        class Text(str):
            pass

        executor.shutdown()
        sys.path.append(Text("mine"))
        sys.argv[0] = pathlib.Path("a")
        sys.pycache_prefix = Text("b")
        sys.executable = Text(sys.executable)
        sys._xoptions["c"] = Text("d")
        __doc__ = Text("e")
        with ungil.ProcessPoolExecutor(1) as executor:
            seen = executor.submit(lambda: (sys.path[-1], sys.argv, sys.pycache_prefix)).result()
        print(seen)
        """,
    )
    outcome = run_python([script])
    assert (outcome.code, outcome.stderr) == (0, ""), outcome
    assert outcome.stdout == "('mine', ['a'], 'b')\n"
