"""CPython's own tests of ``concurrent.futures`` pass with our executors, but for a few cases."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from leftovers import Leftovers

from cpython.excluded import EXCLUDED, PREPARED_FOR, SKIPS_ITSELF

RUNNER = Path(__file__).with_name("runner.py")

MODULES = [
    # The slowest first.
    *["test_wait", "test_process_pool", "test_shutdown", "test_deadlock", "test_as_completed"],
    *["test_thread_pool", "test_future", "test_init"],
]
WITH_EXCLUDED = [
    module for module in MODULES if any(case.startswith(f"{module}.") for case in EXCLUDED)
]

# Seconds for one module's cases, and for one excluded case, which may hang.
LIMIT_S = 300
LIMIT_OF_EXCLUDED_S = 20

# Modules at once: their tests sleep for most of their time.
LANES = 3


def why_not() -> str | None:
    """Why these tests cannot be run by this interpreter; ``None`` if they can."""
    version = ".".join(map(str, sys.version_info[:3]))
    try:
        shipped = importlib.util.find_spec("test.test_concurrent_futures.executor")
    except ImportError:
        shipped = None
    if shipped is None:
        return f"CPython {version} is here without its own test.test_concurrent_futures"
    if sys.version_info[:2] not in PREPARED_FOR:
        return f"no table of exclusions was made for the tests of CPython {version}"
    return None


pytestmark = [
    pytest.mark.timeout(2 * LIMIT_S),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]


class Runs:
    """Runs cases in processes of their own, those of several modules at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lanes = ThreadPoolExecutor(LANES)
        self._reports: dict[tuple[str, bool], Future[dict[str, Any]]] = {}
        self._processes: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._is_closed = False

    def start(self, module: str, are_excluded: bool) -> None:
        """Begins with the excluded cases of a module, or with the others."""
        run = self._run_excluded if are_excluded else self._run_others
        self._reports[module, are_excluded] = self._lanes.submit(run, module)

    def report(self, module: str, are_excluded: bool) -> dict[str, Any]:
        """What came out."""
        return self._reports[module, are_excluded].result()

    def close(self) -> None:
        """Ends what still runs."""
        with self._lock:
            self._is_closed = True
            for process in self._processes:
                process.kill()
        self._lanes.shutdown(cancel_futures=True)

    def _run_others(self, module: str) -> dict[str, Any]:
        excluded = [case for case in EXCLUDED if case.startswith(f"{module}.")]
        report, leftovers = self._run(module, LIMIT_S, "--except", *excluded)
        leftovers.check()
        return report

    def _run_excluded(self, module: str) -> dict[str, Any]:
        cases: dict[str, dict[str, str]] = {}
        for case in EXCLUDED:
            if case.startswith(f"{module}."):
                # Each alone: what it waits for may never come, nor be cleaned up.
                report, leftovers = self._run(module, LIMIT_OF_EXCLUDED_S, "--only", case)
                with contextlib.suppress(pytest.fail.Exception):
                    leftovers.check()
                cases |= report["cases"]
        return {"cases": cases}

    def _run(
        self, module: str, limit_s: float, *selection: str
    ) -> tuple[dict[str, Any], Leftovers]:
        folder = Path(tempfile.mkdtemp(prefix=module, dir=self._folder))
        (folder / "tmp").mkdir()
        leftovers = Leftovers(folder / "tmp")
        path, log = folder / "report.json", folder / "log"
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("PYTHON")
        }
        with self._lock, log.open("wb") as output:
            assert not self._is_closed
            process = subprocess.Popen(
                # What the stdlib warns of is no concern of these tests.
                [sys.executable, "-W", "ignore", RUNNER, module, path, *selection],
                cwd=folder,
                env={**inherited, **leftovers.environment()},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
            self._processes.append(process)
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            # It says where it hangs.
            process.terminate()
            process.wait()
        report: dict[str, Any] = {"cases": {}, "machinery": []}
        if path.exists():
            report = json.loads(path.read_text(encoding="utf-8"))
        report["code"], report["log"] = process.returncode, log.read_text(errors="replace")
        return report, leftovers


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runs]:
    """The runs that the selected tests need, begun."""
    runs = Runs(tmp_path_factory.mktemp("cpython"))
    for item in request.session.items:
        if isinstance(item, pytest.Function) and item.path == request.path:
            parameters = item.callspec.params if hasattr(item, "callspec") else {}
            if "module" in parameters:
                runs.start(parameters["module"], parameters["are_excluded"])
    yield runs
    runs.close()


@pytest.mark.parametrize("are_excluded", [False], ids=["others"])
@pytest.mark.parametrize("module", MODULES)
def test_every_case_passes_that_is_not_excluded(
    runs: Runs, module: str, are_excluded: bool
) -> None:
    report = runs.report(module, are_excluded)
    cases = report["cases"]
    bad = [
        f"{case} {each['outcome']}: {each['reason']}"
        for case, each in cases.items()
        if each["outcome"] not in ("passed", "skipped")
    ]
    assert not bad, "\n\n".join([*bad, report["log"]])
    assert report["code"] == 0, report["log"]
    assert "passed" in {each["outcome"] for each in cases.values()}
    skipped = {case: each["reason"] for case, each in cases.items() if each["outcome"] == "skipped"}
    assert skipped == {
        case: reason for case, reason in SKIPS_ITSELF.items() if case.startswith(f"{module}.")
    }
    assert report["machinery"] == [], "the stdlib's own machinery was started"


@pytest.mark.parametrize("are_excluded", [True], ids=["excluded"])
@pytest.mark.parametrize("module", WITH_EXCLUDED)
def test_excluded_cases_exist_and_do_not_pass(runs: Runs, module: str, are_excluded: bool) -> None:
    cases = runs.report(module, are_excluded)["cases"]
    assert set(cases) == {case for case in EXCLUDED if case.startswith(f"{module}.")}
    passed = [case for case, each in cases.items() if each["outcome"] == "passed"]
    assert passed == [], "these need not be excluded"


def test_number_of_exclusions() -> None:
    # It may only become smaller.
    assert len(EXCLUDED) == 15
    assert all(reason for reason in EXCLUDED.values())
