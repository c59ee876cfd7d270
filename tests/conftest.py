"""Fixtures: run `ungil`, or any script, and make sure that it left nothing behind."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from leftovers import Leftovers

TARGETS = Path(__file__).parent / "targets"

_SPEC = importlib.util.find_spec("ungil")
assert _SPEC is not None
assert _SPEC.submodule_search_locations is not None
_PACKAGE = os.path.abspath(_SPEC.submodule_search_locations[0])

# Settings of whoever runs the tests that would change what is tested.
_UNWANTED = ("PYTHONPATH", "PYTHONHOME", "PYTHONWARNINGS", "COLUMNS", "NO_COLOR", "CLICOLOR_FORCE")


def assert_no_traces_of_ungil(text: str) -> None:
    """Asserts that a text has no traceback and no panic of ungil's own."""
    # In JSON the quotes around the file are escaped.
    for sign in (f'File "{_PACKAGE}', f'File \\"{_PACKAGE}', "panicked at", "PanicException"):
        at = text.find(sign)
        if at >= 0:
            pytest.fail(f"a traceback of ungil's own: {text[max(0, at - 500) : at + 1500]}")


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it said.

    Attributes:
        code: Its exit code; negative if a signal ended it.
        stdout: What it wrote to standard output.
        stderr: What it wrote to standard error.
        document: What it wrote with ``--json``, ``None`` if nothing.
    """

    code: int
    stdout: str
    stderr: str
    document: dict[str, Any] | None = field(repr=False)

    @property
    def comparison(self) -> dict[str, Any]:
        """The only comparison of the document."""
        assert self.document is not None, f"no JSON was written: {self}"
        (comparison,) = self.document["comparisons"]
        return comparison

    @property
    def models(self) -> list[str]:
        """The models of the comparison, in its order."""
        return [each["setup"]["model"] for each in self.comparison["measurements"]]

    def measurement(self, model: str) -> dict[str, Any]:
        """The only measurement of a model."""
        (found,) = [
            each for each in self.comparison["measurements"] if each["setup"]["model"] == model
        ]
        return found

    def failure(self, model: str) -> dict[str, Any]:
        """Why a model has no figures, or no more."""
        failure = self.measurement(model)["failure"]
        assert failure is not None, f"{model} did not fail: {self}"
        return failure

    def failed(self) -> set[str]:
        """The models that failed."""
        return {
            each["setup"]["model"] for each in self.comparison["measurements"] if each["failure"]
        }

    @property
    def usable_cpus(self) -> int:
        """CPUs that could be used at once, as the comparison saw them."""
        machine = self.comparison["machine"]
        return max(1, int(min(machine["affinity_cpus"], machine["quota_cpus"] or math.inf)))

    def notes(self, kind: str) -> list[str]:
        """The notes of a kind."""
        return [note["message"] for note in self.comparison["notes"] if note["kind"] == kind]

    def assert_kept(self, *models: str) -> None:
        """Asserts that these models ran to their end and have their figures."""
        for model in models:
            measurement = self.measurement(model)
            assert measurement["failure"] is None, measurement["failure"]
            assert measurement["time_s"]["value"] > 0
            assert measurement["memory_peak_bytes"] > 0
            assert measurement["cold_start"] is not None


class Running:
    """A command that runs under supervision.

    Attributes:
        process: The command.
        leftovers: Finds what it started.
    """

    def __init__(self, process: subprocess.Popen[str], leftovers: Leftovers, json: Path) -> None:
        self.process = process
        self.leftovers = leftovers
        self._json = json

    def wait(self, stdin: str | None = None, timeout: float = 60) -> Outcome:
        """Waits for its end."""
        try:
            stdout, stderr = self.process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            stdout, stderr = self.process.communicate()
            pytest.fail(f"{self.process.args} did not end within {timeout} s: {stdout}\n{stderr}")
        # A run that was killed, or that could not begin, leaves no document.
        text = self._json.read_text(encoding="utf-8") if self._json.exists() else ""
        for said in (stdout, stderr, text):
            assert_no_traces_of_ungil(said)
        document = json.loads(text) if text else None
        return Outcome(self.process.returncode, stdout, stderr, document)


Start = Callable[..., contextlib.AbstractContextManager[Running]]
Run = Callable[..., Outcome]


@pytest.fixture(scope="session")
def start_python(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Starts this interpreter with arguments; on leaving the context nothing may be left."""

    @contextlib.contextmanager
    def start(
        arguments: Sequence[str | os.PathLike[str]],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        json: Path | None = None,
        **options: Any,
    ) -> Iterator[Running]:
        folder = tmp_path_factory.mktemp("run")
        (folder / "tmp").mkdir()
        (folder / "cwd").mkdir()
        leftovers = Leftovers(folder / "tmp")
        inherited = {name: os.environ[name] for name in os.environ if name not in _UNWANTED}
        streams: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        process = subprocess.Popen(
            [sys.executable, *map(os.fspath, arguments)],
            cwd=cwd or folder / "cwd",
            env={**inherited, **leftovers.environment(), **(env or {})},
            text=True,
            encoding="utf-8",
            errors="surrogateescape",
            **{**streams, **options},
        )
        try:
            yield Running(process, leftovers, json or folder / "report.json")
        finally:
            if process.poll() is None:
                process.kill()
            with contextlib.suppress(ValueError):
                process.communicate()
            leftovers.check()

    return start


@pytest.fixture(scope="session")
def start_ungil(start_python: Start, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Starts ``ungil`` with arguments; ``compare`` also writes JSON, unless told where."""

    def start(arguments: Sequence[str], **options: Any) -> contextlib.AbstractContextManager[Any]:
        arguments = ["-m", "ungil", *map(str, arguments)]
        report = tmp_path_factory.mktemp("report") / "report.json"
        if arguments[2:3] == ["compare"] and "--json" not in arguments:
            arguments += ["--json", str(report)]
        return start_python(arguments, json=report, **options)

    return start


@pytest.fixture(scope="session")
def run_ungil(start_ungil: Start) -> Run:
    """Runs ``ungil`` with arguments to its end."""

    def run(
        arguments: Sequence[str], *, stdin: str | None = "", timeout: float = 60, **options: Any
    ) -> Outcome:
        with start_ungil(arguments, **options) as running:
            return running.wait(stdin, timeout)

    return run


@pytest.fixture(scope="session")
def run_python(start_python: Start) -> Run:
    """Runs this interpreter with arguments to its end."""

    def run(
        arguments: Sequence[str | os.PathLike[str]],
        *,
        stdin: str | None = "",
        timeout: float = 60,
        **options: Any,
    ) -> Outcome:
        with start_python(arguments, **options) as running:
            return running.wait(stdin, timeout)

    return run
