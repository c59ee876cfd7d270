#!/usr/bin/env python3
"""Print the requirements of the dependency groups named as arguments, one a line.

`pip install --group` does the same, but needs pip 25.1, newer than what most interpreters bring.
"""

import sys
import tomllib
from pathlib import Path


def main() -> None:
    """Read pyproject.toml beside this folder and print."""
    text = Path(__file__).resolve().parent.with_name("pyproject.toml").read_text(encoding="utf-8")
    groups = tomllib.loads(text)["dependency-groups"]
    for name in sys.argv[1:]:
        print(*groups[name], sep="\n")


main()
