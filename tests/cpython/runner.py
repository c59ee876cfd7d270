"""Runs cases of one module of CPython's own tests with our executors and reports on each in JSON.

    python runner.py MODULE REPORT [--only CASE ... | --except CASE ...]

The report maps each case to its outcome: "passed", "skipped", "failed" or "error", and the reason.
It is written again after each case, so that it is there if one hangs and this process is ended.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import json
import os
import sys
import traceback
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import substitute

PACKAGE = "test.test_concurrent_futures"


class Report(unittest.TestResult):
    """Writes down how each case ended."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self.machinery: list[str] = []
        self.cases: dict[str, dict[str, str]] = {}

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._note(test, "running", "")

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        if self.cases[name_of(test)]["outcome"] == "running":
            self._note(test, "passed", "")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        self._note(test, "skipped", reason)

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addFailure(test, err)
        self._note(test, "failed", "".join(traceback.format_exception(*err)))

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        super().addError(test, err)
        self._note(test, "error", "".join(traceback.format_exception(*err)))

    def addSubTest(self, test: unittest.TestCase, subtest: Any, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._note(test, "failed", "".join(traceback.format_exception(*err)))

    def _note(self, test: unittest.TestCase, outcome: str, reason: str) -> None:
        self.cases[name_of(test)] = {"outcome": outcome, "reason": reason}
        self.write()

    def write(self) -> None:
        """Writes what is known."""
        report = {"cases": self.cases, "machinery": self.machinery}
        temporary = self._path.with_suffix(".part")
        temporary.write_text(json.dumps(report, indent=1), encoding="utf-8")
        os.replace(temporary, self._path)


def name_of(test: unittest.TestCase) -> str:
    """The module, class and method of a case; the module alone if its set-up failed."""
    return test.id().removeprefix(PACKAGE + ".")


def cases_of(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    """The cases of a suite."""
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            yield from cases_of(each)
        else:
            yield each


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("module")
    parser.add_argument("report", type=Path)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--except", nargs="*", default=[], dest="excluded")
    arguments = parser.parse_args()
    # What hangs says where, when it is told to end.
    faulthandler.register(15, chain=True)
    # Nothing of these tests may see executors before this.
    assert not any(name.startswith(PACKAGE) for name in sys.modules)
    substitute.install()
    substitute.install_in_scripts()
    report = Report(arguments.report)
    substitute.watch_machinery(report.machinery)
    module = importlib.import_module(f"{PACKAGE}.{arguments.module}")
    suite = unittest.TestSuite()
    for case in cases_of(unittest.defaultTestLoader.loadTestsFromModule(module)):
        name = name_of(case)
        if name not in arguments.excluded and (arguments.only is None or name in arguments.only):
            suite.addTest(case)
    suite.run(report)
    report.write()


if __name__ == "__main__":
    main()
