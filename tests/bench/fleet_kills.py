"""Kills workers and the scheduler of a fleet while it runs, and counts lost and doubled records.

    python -m tests.bench.fleet_kills FOLDER [KILLS]

It takes some minutes, and is run by hand; docs/fleet.md has what it found.
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

from tests.plugin.conftest import BACKEND, PYPROJECT, RECIPES, Project
from tests.plugin.fleets import Fleet, Member, fleet_of

WORKERS = 4
SECONDS_BETWEEN = 2.0
SEEDS = 1000


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


def main(folder: Path, kills: int) -> int:
    """Run, kill, count; return 1 where a record was lost or doubled."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    project, chance, done = project_in(folder), random.Random(0), Counter[str]()
    with fleet_of(project) as fleet:
        workers = [fleet.worker("plain", "-n1") for _ in range(WORKERS)]
        command = [sys.executable, "-m", "pytest", "--environment=plain", *fleet.options]
        began = time.monotonic()
        command += [f"--seeds={SEEDS}", "-q"]
        variables = {**os.environ, **project.variables}
        with (
            (folder / "run.log").open("w") as log,
            subprocess.Popen(command, cwd=folder, env=variables, stdout=log, stderr=log) as run,
        ):
            while run.poll() is None and sum(done.values()) < kills:
                time.sleep(chance.uniform(0.5, 1.5) * SECONDS_BETWEEN)
                done[_strike(fleet, workers, chance)] += 1
            run.wait(timeout=900)
        seconds = time.monotonic() - began
    return account(project, done, seconds, run.returncode)


def _strike(fleet: Fleet, workers: list[Member], chance: random.Random) -> str:
    """Kill something, and start it again; return what."""
    what = chance.choices(["worker", "scheduler"], [8, 2])[0]
    if what == "scheduler":
        fleet.members[0].end(signal.SIGKILL)
        fleet.members[0] = fleet.scheduler()
        fleet.members.pop()
        return what
    place = chance.randrange(len(workers))
    workers[place].end(signal.SIGKILL)
    fleet.members.remove(workers[place])
    workers[place] = fleet.worker("plain", "-n1")
    return what


def account(project: Project, done: Counter[str], seconds: float, code: int) -> int:
    """Say what came of it."""
    records = [
        json.loads(line)
        for line in (project.root / ".tunematrix/plain/results.jsonl").read_text().splitlines()
    ]
    counted = Counter(record["cell_id"] for record in records)
    expected = {f"nap[plain-plain]@{seed}" for seed in range(SEEDS)}
    lost = expected - counted.keys()
    doubled = [name for name, count in counted.items() if count > 1]
    outcomes = Counter(record["outcome"] for record in records)
    reasons = Counter(re.sub(r"plain-\w+", "NAME", one["reason"])[:90] for one in records)
    print(f"kills: {dict(done)} in {seconds:.0f} s, exit code {code}")
    print(f"records: {len(records)} of {SEEDS} cells: {dict(outcomes)}")
    print(f"lost: {len(lost)}, doubled: {len(doubled)}")
    print(f"reasons: {dict(reasons)}")
    return int(bool(lost or doubled))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 50))
