"""Modules that are run when they are used first."""

from __future__ import annotations

from pathlib import Path

from conftest import Run

# One thread runs the package, which imports its module; another one imports the module, which asks
# for something of the package. Each has what the other one waits for.
CROSSED = """
import sys, threading
from ungil._postponed import postpone

begun, crossed = threading.Event(), threading.Event()
sys.path.insert(0, sys.argv[1])
sys.modules["gates"] = sys.modules["__main__"]
postpone("package")
package = sys.modules["package"]
runs = threading.Thread(target=lambda: package.late)
runs.start()
begun.wait(30)
import package.module
runs.join(30)
print(package.late, package.module.seen, type(package).__name__)
"""


def test_threads_that_run_and_import_crosswise_do_not_wait_for_ever(
    run_python: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "import gates\ngates.begun.set()\ngates.crossed.wait(30)\n"
        "import package.module\nlate = 'late'\n"
    )
    (folder / "module.py").write_text(
        "import gates, sys\ngates.crossed.set()\n"
        "seen = getattr(sys.modules['package'], 'late', 'nothing yet')\n"
    )
    outcome = run_python(["-c", CROSSED, str(tmp_path)])
    assert (outcome.code, outcome.stderr) == (0, ""), outcome
    # Which of the two the import system lets go on is its affair.
    assert outcome.stdout in ("late nothing yet module\n", "late late module\n")
