"""Kills at random moments: nothing is torn, doubled or left running, and the next run works.

`TUNEMATRIX_KILLS=100` tries that many, instead of a few.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from random import Random
from subprocess import Popen
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject, Project

KILLS = int(os.environ.get("TUNEMATRIX_KILLS", "4"))
CELLS = 5
LATE = "too late"
"""What is said of a kill that nothing was left for."""
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
COMMAND = [sys.executable, "-m", "pytest", "--environment=plain"]
RECIPE = '''

def doze(config, events, output_dir):
    """Says who it is, and takes some time."""
    (output_dir.parents[3] / f"pid-{os.getpid()}").touch()
    time.sleep(0.25)
'''


@pytest.fixture(scope="module")
def project(new_project: NewProject) -> Project:
    """Cells that doze, and one that is done at once."""
    made = new_project()
    recipes = made.root / "tiny_recipes.py"
    recipes.write_text(recipes.read_text() + RECIPE)
    target = "{_target_: tiny_recipes.doze, _partial_: true}"
    made.option("recipe", "doze", f"implementation: {target}\n")
    made.spec("doze", "doze")
    made.spec("quick", "succeed")
    return made


def cells_process(project: Project, driver: Popen[str]) -> int | None:
    """The process of a cell that runs now; None where there was none before the driver's end."""
    folder = project.root / ".tunematrix/plain"
    while driver.poll() is None:
        for file in folder.glob("pid-*"):
            pid = int(file.name.partition("-")[2])
            file.unlink()
            with suppress(ProcessLookupError):
                os.kill(pid, 0)
                return pid
        time.sleep(0.01)
    return None


def strike(project: Project, chance: Random, at_cell: bool) -> tuple[str, int, list[Any]]:
    """Kill a run, or one of its cells, at some moment; return what, its code, and all records."""
    number = chance.choice(SIGNALS)
    with project.started([*COMMAND, "specs/doze.yaml", f"--seeds={CELLS}"]) as driver:
        time.sleep(chance.uniform(0.0, 2.0))
        pid = cells_process(project, driver) if at_cell else driver.pid
        with suppress(ProcessLookupError):
            if pid is not None:
                os.kill(pid, number)
        said = driver.communicate(timeout=120)
        assert project.still_running(seconds=30) == [], said
    for file in (project.root / ".tunematrix/plain").glob("pid-*"):
        file.unlink()
    hit = pid is not None and driver.returncode != 0
    return number.name if hit else LATE, driver.returncode, whole_lines(project)


def whole_lines(project: Project) -> list[Any]:
    """The records of all lines that are whole: only a killed driver's last one may not be."""
    file = project.root / ".tunematrix/plain/results.jsonl"
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


@pytest.mark.parametrize("at_cell", [False, True], ids=["the driver", "a cell"])
def test_kills_at_random_moments(project: Project, at_cell: bool) -> None:
    """Of a run whose cell was killed, all cells are on record, the killed one as no success."""
    chance, done = Random(f"{KILLS} kills {at_cell}"), Counter[str]()
    known = whole_lines(project)
    while done.total() - done[LATE] < KILLS // 2:
        assert done[LATE] <= KILLS, "most kills come too late"
        what, code, records = strike(project, chance, at_cell)
        done[what] += 1
        assert records[: len(known)] == known
        mine = records[len(known) :]
        if at_cell and what != LATE:
            outcomes = Counter(record["outcome"] for record in mine)
            assert len(mine) == CELLS and (code, outcomes["passed"]) == (1, CELLS - 1), outcomes
        assert code or len(mine) == CELLS
        run = project.pytest("specs/quick.yaml")
        assert run.code == 0, run.text
        known = project.records  # each line has to be whole
        assert known[:-1] == records and known[-1]["outcome"] == "passed"
        counted = Counter((record["run_id"], record["cell_id"]) for record in known)
        assert set(counted.values()) == {1}
    print(f"{dict(done)} at {'cells' if at_cell else 'drivers'}")
