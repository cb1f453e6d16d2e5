"""What tunematrix itself costs, as ratios within one run.

    nox -s bench

Absolute times depend on the machine and on what else it does; each row compares two ways of doing
the same thing, alternating, and shows medians.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tunematrix.evidence import collect
from tunematrix.evidence.events import Phase
from tunematrix.evidence.run_dir import CellFile, RunDir
from tunematrix.matrix.cells import expand
from tunematrix.matrix.compose import compose
from tunematrix.matrix.groups import Groups, read_groups
from tunematrix.paths import shipped_configs
from tunematrix.run.driver import Driver
from tunematrix.spec.model import Spec

REPEATS = 5
LIMIT = 300.0
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Row:
    """One comparison: medians in seconds, their ratio, and what was promised of it."""

    what: str
    ours: float
    other: float
    ratio: float
    promise: str = "-"
    kept: bool = True


class Bench:
    """Makes run directories for one small LoRA cell and times ways of running it."""

    def __init__(self, folder: Path, groups: Groups) -> None:
        self.folder = folder
        self.groups = groups
        self.count = 0

    def cell(self, **overrides: object) -> RunDir:
        """Write a fresh cell: LoRA on the toy model, with some settings overridden."""
        settings: dict[str, object] = {"train.max_steps": 20}
        settings |= {key.replace("__", "."): value for key, value in overrides.items()}
        spec = Spec.model_validate(
            {"test_id": "bench", "recipe": "sft", "overrides": settings, "matrix": {}}
        )
        (cell,), _ = expand(spec, self.groups, ["cpu"])
        config = dict(compose(cell, self.groups.roots))
        config["cache_dir"] = str(self.folder / "cache")
        self.count += 1
        run_dir = RunDir.create(self.folder / f"run{self.count}", cell.id)
        run_dir.write_cell(CellFile(cell.id, config, str(run_dir.output)))
        return run_dir


def main() -> None:
    """Print the table; exit with 1 if a ratio is worse than promised."""
    groups = read_groups([shipped_configs()])
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), groups)
        preload = groups.axes["backend"]["cpu"].data["preload"]
        assert isinstance(preload, list)
        with Driver([str(name) for name in preload], report=print) as driver:
            rows = [isolation(bench, driver), meters(bench, driver), memory_pass(bench, driver)]
    rows.append(collection())
    Console().print(table(rows))
    sys.exit(0 if all(row.kept for row in rows) else 1)


def isolation(bench: Bench, driver: Driver) -> Row:
    """The same cell, forked from the preloaded server and in a fresh interpreter."""
    forked: list[float] = []
    fresh: list[float] = []
    driver.run(bench.cell(), LIMIT)
    for _ in range(REPEATS):
        forked.append(timed(lambda: driver.run(bench.cell(), LIMIT)))
        command = [sys.executable, "-m", "tunematrix.run.worker"]
        path = str(bench.cell().path)
        fresh.append(timed(lambda: subprocess.run([*command, path], check=True)))  # noqa: B023
    ours, other = statistics.median(forked), statistics.median(fresh)
    ratio = other / ours
    return Row("cell: fresh interpreter / forked", ours, other, ratio, ">= 8", ratio >= 8)


def meters(bench: Bench, driver: Driver) -> Row:
    """The training phase with its always-on meters, and the same function called bare."""
    metered: list[float] = []
    bare: list[float] = []
    for _ in range(REPEATS):
        run_dir = bench.cell(train__max_steps=60)
        end = driver.run(run_dir, LIMIT)
        phases = collect(run_dir, end).all(Phase)
        metered.append(next(phase.seconds for phase in phases if phase.name == "train"))
        run_dir = bench.cell(train__max_steps=60)
        arguments = {"run_dir": str(run_dir.path)}
        log = run_dir.path / "bare.log"
        driver.call("tests.bench.bare:run", arguments, LIMIT, log)
        bare.append(float((run_dir.path / "bare.txt").read_text()))
    ours, other = statistics.median(metered), statistics.median(bare)
    ratio = ours / other
    return Row("training: metered / bare", ours, other, ratio, "<= 1.15", ratio <= 1.15)


def memory_pass(bench: Bench, driver: Driver) -> Row:
    """A cell with the separate pass for the allocator's peak, and without; for the record."""
    without = statistics.median(timed(lambda: driver.run(bench.cell(), LIMIT)) for _ in range(3))
    within = statistics.median(
        timed(lambda: driver.run(bench.cell(meters__allocator=True), LIMIT)) for _ in range(3)
    )
    return Row("cell: with memory pass / without", within, without, within / without)


def collection() -> Row:
    """Collecting the whole suite, without an ML import; the bound is in seconds."""
    command = [sys.executable, "-m", "pytest", "configs/specs", "--collect-only", "-q"]

    def collect_suite() -> None:
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)

    def start_python() -> None:
        subprocess.run([sys.executable, "-c", "import pytest"], check=True)

    ours = statistics.median(timed(collect_suite) for _ in range(REPEATS))
    other = statistics.median(timed(start_python) for _ in range(REPEATS))
    return Row("collection / import pytest", ours, other, ours / other, "<= 1.5 s", ours <= 1.5)


def timed(work: Callable[[], object]) -> float:
    """Return the wall time of `work` in seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def table(rows: list[Row]) -> Table:
    """Return the rows as a table."""
    found = Table(title=f"medians of {REPEATS}, alternating, in one run")
    for heading in ("what", "ours, s", "other, s", "ratio", "promise", ""):
        found.add_column(heading, justify="left" if heading == "what" else "right")
    for row in rows:
        figures = (f"{row.ours:.2f}", f"{row.other:.2f}", f"{row.ratio:.2f}")
        found.add_row(row.what, *figures, row.promise, "✓" if row.kept else "✗")
    return found


if __name__ == "__main__":
    main()
