"""A driver of its own, to be killed: runs one tiny recipe, and another one after Ctrl-C.

Usage: python drive.py FOLDER RECIPE [MODULE_TO_PRELOAD]
"""

from __future__ import annotations

import sys
from pathlib import Path

from tunematrix.evidence.run_dir import CellFile, RunDir
from tunematrix.run.driver import Driver


def cell(folder: Path, recipe: str) -> RunDir:
    """The cell of a tiny recipe."""
    run_dir = RunDir.create(folder, recipe)
    implementation = {"_target_": f"recipes_for_run.{recipe}", "_partial_": True}
    config = {"recipe": {"implementation": implementation}}
    run_dir.write_cell(CellFile(recipe, config, str(run_dir.output)))
    return run_dir


def main(folder: Path, recipe: str, *preload: str) -> None:
    """Runs the recipe until somebody interferes."""
    with Driver(preload, report=print) as driver:
        try:
            driver.run(cell(folder, recipe), timeout=600)
        except KeyboardInterrupt:
            end = driver.run(cell(folder, "succeed"), timeout=30)
            print(f"interrupted, next cell exits with {end.code}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
