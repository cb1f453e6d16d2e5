"""Kills workers and the scheduler of a fleet while it runs, and counts lost and doubled records.

    python -m tests.bench.fleet_kills FOLDER [KILLS [CELLS]]

The workers are forks that begin at once, so that a hundred kills take some minutes. It is run by
hand; docs/fleet.md has what it found.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.bench.warm import Warm
from tests.plugin.conftest import BACKEND, PYPROJECT, RECIPES, Project
from tests.plugin.fleets import Fleet, fleet_of

WORKERS = 4
SECONDS_BETWEEN = 1.0
KILLS, CELLS = 50, 400


def project_in(folder: Path) -> Project:
    """Return a project with cells that take a third of a second each."""
    project = Project(folder)
    project.write("pyproject.toml", PYPROJECT)
    project.write("conf/backend/plain.yaml", BACKEND)
    project.option("quantizer", "plain")
    shutil.copy(RECIPES, project.root)
    target = "{_target_: tiny_recipes.nap, _partial_: true}"
    project.option("recipe", "nap", f"implementation: {target}\n")
    project.spec("nap", "nap")
    return project


def main(folder: Path, kills: int, cells: int) -> int:
    """Run, kill, count; return 1 where a record was lost or doubled, or too few were killed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    project, chance, done = project_in(folder), random.Random(0), Counter[str]()
    with fleet_of(project) as fleet, Warm(folder) as warm:
        _top_up(fleet, warm)
        log = folder / "run.log"
        project.wait_for(lambda: _at_work(folder) == WORKERS)
        command = [sys.executable, "-m", "pytest", "--environment=plain", *fleet.options]
        command += [f"--seeds={cells}", "-v"]
        began = time.monotonic()
        with (
            log.open("w") as file,
            subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **project.variables},
                stdout=file,
                stderr=file,
            ) as run,
        ):
            project.wait_for(lambda: "PASSED" in log.read_text(), seconds=300)
            while run.poll() is None and sum(done.values()) < kills:
                time.sleep(chance.uniform(0.5, 1.5) * SECONDS_BETWEEN)
                done[_strike(fleet, warm, chance)] += 1
            killing = time.monotonic() - began
            run.wait(timeout=900)
        seconds = time.monotonic() - began
    print(f"kills: {dict(done)} in {killing:.0f} s of {seconds:.0f} s, exit code {run.returncode}")
    few = sum(done.values()) < kills
    print("too few kills: the cells had ended; name more of them" if few else "")
    return account(project, cells) or int(few)


def _top_up(fleet: Fleet, warm: Warm) -> None:
    """Start as many workers as are lacking: one that finds no scheduler ends by itself."""
    warm.forget_ended()
    own = ("worker", fleet.address, "-e", "plain", "-n1")
    while len(warm.workers) < WORKERS:
        warm.start(*own, f"--certificates={fleet.certificates}")


def _at_work(folder: Path) -> int:
    return sum("at work for" in log.read_text() for log in folder.glob("worker-*.log"))


def _strike(fleet: Fleet, warm: Warm, chance: random.Random) -> str:
    """Kill something, and start it again; return what."""
    what = chance.choices(["worker", "scheduler"], [8, 2])[0]
    if what == "scheduler":
        fleet.members[0].end(signal.SIGKILL)
        fleet.members[0] = fleet.scheduler()
        fleet.members.pop()
        _top_up(fleet, warm)
        return what
    warm.kill(chance.randrange(len(warm.workers)))
    _top_up(fleet, warm)
    return what


def account(project: Project, cells: int) -> int:
    """Say what became of the records; return 1 where one was lost or doubled."""
    records = [
        json.loads(line)
        for line in (project.root / ".tunematrix/plain/results.jsonl").read_text().splitlines()
    ]
    counted = Counter(record["cell_id"] for record in records)
    expected = {f"nap[plain-plain]@{seed}" for seed in range(cells)}
    lost = expected - counted.keys()
    doubled = [name for name, count in counted.items() if count > 1]
    outcomes = Counter(record["outcome"] for record in records)
    reasons = Counter(re.sub(r"plain-\w+", "NAME", one["reason"])[:90] for one in records)
    print(f"records: {len(records)} of {cells} cells: {dict(outcomes)}")
    print(f"lost: {len(lost)}, doubled: {len(doubled)}")
    print(f"reasons: {dict(reasons)}")
    return int(bool(lost or doubled))


if __name__ == "__main__":
    given = [int(text) for text in sys.argv[2:]]
    sys.exit(main(Path(sys.argv[1]).resolve(), *(given + [KILLS, CELLS][len(given) :])))
