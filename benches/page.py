"""Writes the page of the benchmarks beside the JSON that it is made of.

make bench-page                        measures first
python benches/page.py [FOLDER]        README.md and the pictures of FOLDER/*.json
python benches/page.py --no-plots      README.md alone, which needs no matplotlib
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ungil_bench.page import documents, page, plots

FOLDER = Path(__file__).parent.parent / "docs" / "benchmarks"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, help="[docs/benchmarks]")
    parser.add_argument("--no-plots", action="store_true", help="leave the pictures as they are")
    chosen = parser.parse_args()
    try:
        them = documents(chosen.folder)
    except ValueError as error:
        parser.error(str(error))
    if not them:
        parser.error(f"{chosen.folder} has no executors.json and no growth.json")
    (chosen.folder / "README.md").write_text(page(them), encoding="utf-8")
    if not chosen.no_plots:
        from ungil_bench.drawing import draw

        # Pictures of rows that are not measured any more would be stale.
        for old in chosen.folder.glob("*.svg"):
            old.unlink()
        for plot in plots(them):
            draw(plot, chosen.folder / plot.file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
