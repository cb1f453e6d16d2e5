"""What a fleet adds to a cell: four workers of one machine against `-n 4` there, in turns.

    python -m tests.bench.fleet_overhead FOLDER [CELLS [ROUNDS]]

Both run the same cells, which sleep for a third of a second, one after the other in each round, so
that a machine that others use slows both. It is run by hand; docs/fleet.md has what it found.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from pathlib import Path

from tests.bench.fleet_kills import project_in
from tests.plugin.conftest import Project
from tests.plugin.fleets import fleet_of

CELLS, ROUNDS, WORKERS = 120, 3, 4


def main(folder: Path, cells: int, rounds: int) -> int:
    """Measure, and say what came of it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    project = project_in(folder)
    with fleet_of(project) as fleet:
        for _ in range(WORKERS):
            fleet.worker("plain", "-n1")
        ways = {
            f"-n {WORKERS}": ("-p", "xdist", f"-n{WORKERS}"),
            f"{WORKERS} workers": fleet.options,
        }
        took: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, options in ways.items():
                took[name].append(_seconds(project, cells, *options))
    local, over = took.values()
    for name, seconds in took.items():
        shown = ", ".join(f"{one:.1f}" for one in seconds)
        print(f"{name}: {shown} s for {cells} cells")
    ratios = [b / a for a, b in zip(local, over, strict=True)]
    more = [1000 * (b - a) * WORKERS / cells for a, b in zip(local, over, strict=True)]
    middle = statistics.median(ratios)
    print(f"ratio: {', '.join(f'{one:.2f}' for one in ratios)}; median {middle:.2f}")
    print(f"more of a cell: {', '.join(f'{one:.0f}' for one in more)} ms, starting included")
    return 0


def _seconds(project: Project, cells: int, *options: str) -> float:
    (project.root / ".tunematrix/plain/results.jsonl").unlink(missing_ok=True)
    began = time.monotonic()
    ended = project.pytest(*options, f"--seeds={cells}", "-q")
    assert ended.code == 0, ended.text
    return time.monotonic() - began


if __name__ == "__main__":
    given = [int(text) for text in sys.argv[2:]]
    sys.exit(main(Path(sys.argv[1]).resolve(), *(given + [CELLS, ROUNDS][len(given) :])))
