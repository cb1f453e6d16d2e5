"""What tunematrix itself costs, as ratios within one run.

    nox -s bench

Absolute times depend on the machine and on what else it does; each row compares two ways of doing
the same thing, alternating, and shows medians.
"""

from __future__ import annotations

import os
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
from tests.bench import commands, planning, watching

from tunematrix.environments.table import Environment
from tunematrix.evidence.events import Phase
from tunematrix.evidence.run_dir import RunDir
from tunematrix.matrix.cells import expand
from tunematrix.matrix.groups import Groups, read_groups
from tunematrix.matrix.plan import plan
from tunematrix.paths import shipped_configs
from tunematrix.project import Project, read_project
from tunematrix.spec.loader import load_specs
from tunematrix.spec.model import Spec
from tunematrix.workflow import steps
from tunematrix.workflow.context import RunContext
from tunematrix.workflow.passage import Passage, carry

REPEATS = 5
LIMIT = 300
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
    """Makes run directories for one small LoRA cell, and times ways of running it."""

    def __init__(self, folder: Path, groups: Groups) -> None:
        self.groups = groups
        self.context = RunContext(
            environment=Environment("bench", "", ("cpu",)),
            groups=groups,
            run_id="bench",
            root=folder,
            isolation="auto",
            faults=(),
            keep_output=True,
            say=print,
        )
        self.count = 0

    def place(self, overrides: Mapping[str, object] | None = None) -> Passage:
        """Take a fresh cell as far as its folder: LoRA on the toy model, some settings changed."""
        self.count += 1
        data = {
            "test_id": f"bench{self.count}",
            "recipe": "sft",
            "timeout": LIMIT,
            "overrides": {"train.max_steps": 20, **(overrides or {})},
        }
        (cell,), _ = expand(Spec.model_validate(data), self.groups, ["cpu"])
        return carry(Passage(cell), self.context, (*steps.READY, steps.make_folder))

    def run(self, passage: Passage) -> Passage:
        """Run it as the suite does."""
        return steps.execute(passage, self.context)


def main() -> None:
    """Print the table; exit with 1 if a ratio is worse than promised."""
    groups = read_groups([shipped_configs()])
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), groups)
        try:
            rows = [isolation(bench, 4, 8.0), isolation(bench, 20, None)]
            rows += [meters(bench), memory_pass(bench)]
        finally:
            bench.context.close(prune=False)
    project = read_project(ROOT, "cpu")
    rows += [collection(), planned(project), composed(project), command(groups), smoke()]
    rows += watched()
    Console().print(table(rows))
    sys.exit(0 if all(row.kept for row in rows) else 1)


def isolation(bench: Bench, count: int, least: float | None) -> Row:
    """The same small cell, forked from the preloaded server and in a fresh interpreter.

    The longer a cell trains, the less its start counts: the promise is about starting.
    """
    small = {"train.max_steps": count, "meters.held_out_rows": 8}
    bench.run(bench.place(small))  # the first one waits for the imports

    def forked() -> float:
        placed = bench.place(small)
        return timed(lambda: bench.run(placed))

    def fresh() -> float:
        command = [
            sys.executable,
            "-m",
            "tunematrix.run.worker",
            str(folder_of(bench.place(small))),
        ]
        return timed(lambda: subprocess.run(command, check=True))

    ours, other = alternating(forked, fresh)
    ratio = other / ours
    what = f"{count}-step cell: fresh interpreter / forked"
    if least is None:
        return Row(what, ours, other, ratio)
    return Row(what, ours, other, ratio, f">= {least:g}", ratio >= least)


def meters(bench: Bench) -> Row:
    """The training phase with its always-on meters, and the same loop called bare."""
    small = {"train.max_steps": 60}

    def metered() -> float:
        evidence = steps.collect(bench.run(bench.place(small)), bench.context).evidence
        assert evidence is not None
        return next(one.seconds for one in evidence.all(Phase) if one.name == "train")

    def bare() -> float:
        folder = folder_of(bench.place(small))
        bench.context.executor.call(
            "tests.bench.bare:run", {"run_dir": str(folder)}, LIMIT, RunDir(folder)
        )
        return float((folder / "bare.txt").read_text())

    ours, other = alternating(metered, bare)
    ratio = ours / other
    return Row("training: metered / bare", ours, other, ratio, "<= 1.1", ratio <= 1.1)


def memory_pass(bench: Bench) -> Row:
    """A cell with the separate pass for the allocator's peak, and without; for the record."""

    def cell(*, allocator: bool) -> float:
        placed = bench.place({"meters.allocator": allocator})
        return timed(lambda: bench.run(placed))

    ours, other = alternating(lambda: cell(allocator=True), lambda: cell(allocator=False))
    return Row("cell: with memory pass / without", ours, other, ours / other)


def collection() -> Row:
    """Collecting the whole suite, without an ML import; the bound is in seconds."""
    collect_suite = [sys.executable, "-m", "pytest", "configs/specs", "--collect-only", "-q"]
    start_python = [sys.executable, "-c", "import pytest"]

    def seconds(command: list[str]) -> float:
        quiet = subprocess.DEVNULL
        # As on a machine where Python keeps what it compiles; where this is set, it doesn't.
        env = {key: os.environ[key] for key in os.environ if key != "PYTHONDONTWRITEBYTECODE"}
        return timed(lambda: subprocess.run(command, check=True, cwd=ROOT, env=env, stdout=quiet))

    ours, other = alternating(lambda: seconds(collect_suite), lambda: seconds(start_python))
    return Row("collection / import pytest", ours, other, ours / other, "<= 1.2 s", ours <= 1.2)


def planned(project: Project) -> Row:
    """Ten times as many cells take about ten times as long to plan, and 10,000 under 3 s."""
    planning.seconds_to_plan(project, 1)
    (few, fast), (many, slow) = (planning.seconds_to_plan(project, specs) for specs in (2, 10))
    linear = slow / fast <= 1.5 * many / few
    what = f"planning {many} cells / {few}"
    kept = linear and slow <= 3 * many / 10_000
    return Row(what, slow, fast, slow / fast, f"<= {1.5 * many / few:g}, 3 s", kept)


def composed(project: Project) -> Row:
    """A cell's configuration, merged by us and composed by Hydra."""
    cells = plan(load_specs(project.spec_folders), project.groups, project.environment).cells
    ours, other = planning.seconds_to_compose(project, list(cells[::15]))
    ratio = other / ours
    return Row("composing a cell: Hydra / ours", ours, other, ratio, ">= 5", ratio >= 5)


def command(groups: Groups) -> Row:
    """A trainer's command as a cell, and by itself; the bound is on the seconds between them."""
    with tempfile.TemporaryDirectory() as folder:
        as_a_cell, by_itself = commands.ways(Path(folder), groups)
        as_a_cell()  # the first one imports what it needs
        ours, other = alternating(as_a_cell, by_itself)
    what, kept = "short command: as a cell / by itself", ours - other <= 0.3
    return Row(what, ours, other, ours / other, "<= +0.3 s", kept)


def watched() -> list[Row]:
    """Steps of a training loop under the probe, and without it."""
    costs = watching.costs()
    bare, own = costs.bare, 1 + costs.own / costs.bare
    gradient, extra = (one / watching.MEGABYTE for one in (costs.gradient, costs.memory))
    share = extra / gradient
    return [
        Row("watched step, the probe's own / bare", own * bare, bare, own, "<= 1.02", own <= 1.02),
        Row(
            "watched step, not audited / bare",
            costs.cheap * bare,
            bare,
            costs.cheap,
            "a figure, no bound",
            True,
        ),
        Row(
            "watched step, audited / bare",
            costs.audited * bare,
            bare,
            costs.audited,
            "<= 3",
            costs.audited <= 3,
        ),
        Row("MB of an audited step / of gradients", extra, gradient, share, "<= 1", share <= 1),
    ]


def smoke() -> Row:
    """All smoke cells, from nothing to the verdict, and the bare import of what they run on."""
    suite = [sys.executable, "-m", "pytest", "configs/specs", "-m", "smoke", "-q"]
    libraries = "torch, datasets, transformers.models.llama.modeling_llama, peft, trl.trainer"
    modules = f"import {libraries}.sft_trainer, trl.trainer.dpo_trainer"

    def seconds(command: list[str]) -> float:
        quiet = subprocess.DEVNULL
        # As on a machine where Python keeps what it compiles; where this is set, it doesn't.
        env = {key: os.environ[key] for key in os.environ if key != "PYTHONDONTWRITEBYTECODE"}
        return timed(lambda: subprocess.run(command, check=True, cwd=ROOT, env=env, stdout=quiet))

    ours, other = alternating(
        lambda: seconds(suite), lambda: seconds([sys.executable, "-c", modules]), repeats=1
    )
    ratio = ours / other
    return Row("smoke tier / import of the stack", ours, other, ratio, "<= 3", ratio <= 3)


def folder_of(passage: Passage) -> Path:
    """Return where a cell has been placed."""
    assert passage.run_dir is not None
    return passage.run_dir.path


def alternating(
    ours: Callable[[], float], other: Callable[[], float], repeats: int = REPEATS
) -> tuple[float, float]:
    """Measure both in turns, so that what else the machine does meets both; return medians."""
    pairs = [(ours(), other()) for _ in range(repeats)]
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
