"""A driver of its own, to be killed: runs one tiny recipe, and another one after Ctrl-C.

Usage: python drive.py FOLDER RECIPE [MODULE_TO_PRELOAD]
"""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

from tests.tiny import tiny_configuration

from tunematrix.evidence.run_dir import CellFile, RunDir
from tunematrix.run.local.executors import open_executor


def cell(folder: Path, recipe: str) -> RunDir:
    """The cell of a tiny recipe."""
    run_dir = RunDir.create(folder, recipe)
    run_dir.write_cell(CellFile(recipe, tiny_configuration(f"recipes_for_run.{recipe}")))
    return run_dir


def main(folder: Path, recipe: str, *preload: str) -> None:
    """Runs the recipe until somebody interferes."""
    with closing(open_executor("auto", preload, say=print)) as executor:
        try:
            executor.run(cell(folder, recipe), timeout=600)
        except KeyboardInterrupt:
            end = executor.run(cell(folder, "succeed"), timeout=30)
            print(f"interrupted, next cell exits with {end.code}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
