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
from collections.abc import Callable, Mapping
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
    """One comparison.

    Attributes:
        what: two ways of doing the same thing, in the order of the ratio.
        ours, other: medians in seconds.
        ratio: of the two.
        promise: what is claimed of it; kept: whether that held.
    """

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

    def cell(self, overrides: Mapping[str, object] | None = None) -> RunDir:
        """Write a fresh cell: LoRA on the toy model, with some settings overridden."""
        settings = {"train.max_steps": 20, **(overrides or {})}
        spec = Spec.model_validate({"test_id": "bench", "recipe": "sft", "overrides": settings})
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
            rows = [isolation(bench, driver, 4, 8.0), isolation(bench, driver, 20, None)]
            rows += [meters(bench, driver), memory_pass(bench, driver)]
    rows.append(collection())
    Console().print(table(rows))
    sys.exit(0 if all(row.kept for row in rows) else 1)


def isolation(bench: Bench, driver: Driver, count: int, least: float | None) -> Row:
    """The same small cell, forked from the preloaded server and in a fresh interpreter.

    The longer a cell trains, the less its start counts: the promise is about starting.
    """
    steps = {"train.max_steps": count, "meters.held_out_rows": 8}
    driver.run(bench.cell(steps), LIMIT)  # the first one waits for the imports

    def forked() -> float:
        run_dir = bench.cell(steps)
        return timed(lambda: driver.run(run_dir, LIMIT))

    def fresh() -> float:
        command = [sys.executable, "-m", "tunematrix.run.worker", str(bench.cell(steps).path)]
        return timed(lambda: subprocess.run(command, check=True))

    ours, other = alternating(forked, fresh)
    ratio = other / ours
    what = f"{count}-step cell: fresh interpreter / forked"
    if least is None:
        return Row(what, ours, other, ratio)
    return Row(what, ours, other, ratio, f">= {least:g}", ratio >= least)


def meters(bench: Bench, driver: Driver) -> Row:
    """The training phase with its always-on meters, and the same loop called bare."""
    steps = {"train.max_steps": 60}

    def metered() -> float:
        run_dir = bench.cell(steps)
        phases = collect(run_dir, driver.run(run_dir, LIMIT)).all(Phase)
        return next(phase.seconds for phase in phases if phase.name == "train")

    def bare() -> float:
        folder = bench.cell(steps).path
        driver.call("bare:run", {"run_dir": str(folder)}, LIMIT, folder / "bare.log")
        return float((folder / "bare.txt").read_text())

    ours, other = alternating(metered, bare)
    ratio = ours / other
    return Row("training: metered / bare", ours, other, ratio, "<= 1.15", ratio <= 1.15)


def memory_pass(bench: Bench, driver: Driver) -> Row:
    """A cell with the separate pass for the allocator's peak, and without; for the record."""

    def cell(*, allocator: bool) -> float:
        run_dir = bench.cell({"meters.allocator": allocator})
        return timed(lambda: driver.run(run_dir, LIMIT))

    ours, other = alternating(lambda: cell(allocator=True), lambda: cell(allocator=False))
    return Row("cell: with memory pass / without", ours, other, ours / other)


def collection() -> Row:
    """Collecting the whole suite, without an ML import; the bound is in seconds."""
    collect_suite = [sys.executable, "-m", "pytest", "configs/specs", "--collect-only", "-q"]
    start_python = [sys.executable, "-c", "import pytest"]

    def seconds(command: list[str]) -> float:
        quiet = subprocess.DEVNULL
        return timed(lambda: subprocess.run(command, check=True, cwd=ROOT, stdout=quiet))

    ours, other = alternating(lambda: seconds(collect_suite), lambda: seconds(start_python))
    return Row("collection / import pytest", ours, other, ours / other, "<= 1.5 s", ours <= 1.5)


def alternating(ours: Callable[[], float], other: Callable[[], float]) -> tuple[float, float]:
    """Measure both in turns, so that what else the machine does meets both; return medians."""
    pairs = [(ours(), other()) for _ in range(REPEATS)]
    first, second = zip(*pairs, strict=True)
    return statistics.median(first), statistics.median(second)


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
