"""The README's code runs as it stands there, and its claims about files and options are true."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
PYTHON = [text for language, text in BLOCKS if language == "python"]
COMMANDS = [
    line.removeprefix("$ ")
    for language, text in BLOCKS
    if language == "console"
    for line in text.splitlines()
    if line.startswith("$ ")
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files that the README tells its reader to make."""
    for text in PYTHON:
        name = re.match(r"# (\w+\.py)\n", text)
        if name:
            (tmp_path / name[1]).write_text(text, encoding="utf-8")
    return tmp_path


def test_the_readme_has_code_and_commands_to_run() -> None:
    assert len(PYTHON) >= 2
    assert len(COMMANDS) >= 3


@pytest.mark.parametrize("command", [each for each in COMMANDS if "ungil compare" in each])
def test_every_ungil_command_of_the_readme_runs(command: str, folder: Path) -> None:
    words = shlex.split(command)
    assert words[0].endswith("/ungil")
    ran = subprocess.run(
        [sys.executable, "-m", "ungil", *words[1:]],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ran.returncode == 0, ran.stderr
    assert "Repeated:" in ran.stdout


@pytest.mark.parametrize("text", [each for each in PYTHON if not each.startswith("# ")])
def test_every_script_of_the_readme_runs(text: str, folder: Path) -> None:
    (folder / "script.py").write_text(text, encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "script.py"], cwd=folder, capture_output=True, text=True, timeout=100
    )
    assert ran.returncode == 0, ran.stderr
    if "compare(" in text:
        assert "Repeated:" in ran.stdout
    elif "ungil.empty(" in text:
        assert ran.stdout == "[0. 1. 2. 3.]\n"
    else:
        assert "WorkerCrashed: inspect was not finished" in ran.stdout
        numbers = [line for line in ran.stdout.splitlines() if line.isdigit()]
        assert numbers == ["0", "1", "4", "16", "25"]


def test_every_make_target_of_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {command.split()[1] for command in COMMANDS if command.startswith("make ")}
    targets |= set(re.findall(r"`make (\w+)`", README))
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_option_of_the_readme_is_in_the_help() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "ungil", "compare", "--help"], capture_output=True, text=True
    )
    for option in set(re.findall(r"--[a-z]+", README)):
        assert option in ran.stdout, option


def test_every_file_that_the_readme_links_to_exists() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
