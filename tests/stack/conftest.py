"""Cells of the shipped suite, run in this process: a fault is planted around the call."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tunematrix.checks.verdict import Verdict
from tunematrix.configuration import Configuration
from tunematrix.environments.table import Environment
from tunematrix.evidence import Evidence, Exit
from tunematrix.evidence.run_dir import RunDir
from tunematrix.evidence.tensors import Array, Kind, Tensors, read_tensors
from tunematrix.faults.catalogue import Fault
from tunematrix.matrix.cells import Cell, expand
from tunematrix.matrix.compose import compose
from tunematrix.matrix.groups import Groups, read_groups
from tunematrix.paths import shipped_configs
from tunematrix.run import worker
from tunematrix.run.executor import Executor, Poll
from tunematrix.run.foreground import Foreground
from tunematrix.run.local.executors import open_executor
from tunematrix.spec.loader import load_specs
from tunematrix.spec.model import Spec
from tunematrix.workflow import steps
from tunematrix.workflow.context import RunContext
from tunematrix.workflow.passage import Passage, carry

WAY = (steps.compose, steps.make_folder, steps.execute, steps.collect, steps.judge)
"""Nothing is prepared: what these cells need is compiled where the suite compiles it."""

RunCell = Callable[[str], "Judged"]
"""Takes a cell's id."""


def judged(passage: Passage) -> Judged:
    """Return what the checks said of a cell, by their names."""
    assert passage.evidence is not None
    verdicts = {verdict.name: verdict for verdict in passage.verdicts}
    return Judged(passage.evidence, verdicts)


@dataclass(frozen=True)
class Judged:
    """A cell that has run, and what the checks said."""

    evidence: Evidence
    verdicts: dict[str, Verdict]

    @property
    def failed(self) -> set[str]:
        """Names of the checks that failed."""
        return {name for name, verdict in self.verdicts.items() if verdict.outcome == "failed"}


class Here(Foreground):
    """Cells in this process, and what one raises is raised."""

    def run(self, run_dir: RunDir, timeout: float, poll: Poll | None = None) -> Exit:
        """Run a cell to its end."""
        # As the fork server does: meters collect garbage, and walking through a million imported
        # objects each time took half of a cell.
        gc.collect()
        gc.freeze()
        worker.execute(run_dir)
        return Exit(0, None, False, (), 1.0, "foreground")


Carry = Callable[..., Passage]
"""Takes a cell, and the name of a fault that it is run under, if any."""


@pytest.fixture
def carry_here(tmp_path: Path) -> Carry:
    """Take a cell of CPU or MLX the way of all cells, in this process; what it raises is raised."""
    return _carrier(tmp_path, read_groups([shipped_configs()]), Here())


@pytest.fixture(scope="module")
def forking() -> Iterator[Executor]:
    """One fork server for the tests of a file, which finds what lies beside them."""
    preload = read_groups([shipped_configs()]).backend("cpu").preload
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        with closing(open_executor("auto", preload, say=print)) as executor:
            yield executor


@pytest.fixture
def carry_apart(tmp_path: Path, forking: Executor) -> Carry:
    """Take a cell the way of all cells, in processes of its own."""
    return _carrier(tmp_path, read_groups([shipped_configs()]), forking)


def context_of(
    root: Path, groups: Groups, executor: Executor, run_id: str = "0", faults: tuple[str, ...] = ()
) -> RunContext:
    """Return what cells of any backend share in one run; its owner closes it."""
    return RunContext(
        environment=Environment("tests", "", tuple(groups.axes["backend"])),
        groups=groups,
        run_id=run_id,
        root=root,
        isolation="auto",
        faults=faults,
        keep_output=True,
        say=print,
        here=executor,
    )


def _carrier(root: Path, groups: Groups, executor: Executor) -> Carry:
    runs = itertools.count()

    def carry_one(cell: Cell, fault: str = "") -> Passage:
        # A fault is held against an honest run of the same test: neither may read the other's.
        context = context_of(root, groups, executor, str(next(runs)), (fault,) if fault else ())
        passage = carry(Passage(cell), context, WAY)
        context.close(prune=False)
        return passage

    return carry_one


@pytest.fixture
def run_here(carry_here: Carry) -> RunCell:
    """Run a cell of the shipped suite in this process, and judge it by its spec."""
    groups = read_groups([shipped_configs()])

    def run(cell_id: str) -> Judged:
        name, _, rest = cell_id.partition("[")
        backend = rest.partition("-")[0].removesuffix("]")
        (spec,) = load_specs([shipped_configs() / "specs" / f"{name}.yaml"])
        cells, _ = expand(spec, groups, [backend])
        (cell,) = (cell for cell in cells if cell.id == cell_id)
        return judged(carry_here(cell))

    return run


SMALL: Mapping[str, object] = {
    "train.max_steps": 3,
    "train.batch_size": 4,
    "meters.held_out_rows": 8,
}
SMALLER: Mapping[str, object] = {**SMALL, "train.batch_size": 2, "meters.held_out_rows": 4}
"""For MLX, whose kernels for CPUs take ten times as long as PyTorch's."""


@dataclass(frozen=True)
class Small(Judged):
    """A small cell that has run in this process.

    Attributes:
        folder: its run directory; tensors: what it kept for relations.
        config: what it was composed to.
    """

    folder: Path
    tensors: Tensors
    config: Configuration

    def stage(self, kind: Kind, step: int | None = None) -> dict[str, Array]:
        """Return the tensors of a kind, and of a step if it has any, by their names."""
        return {
            f"{key.name}/{key.part}" if key.part else key.name: tensor
            for key, tensor in self.tensors.items()
            if (key.kind, key.step) == (kind, step)
        }


Composed = tuple[Spec, Configuration]
ComposeSmall = Callable[..., Composed]
RunSmall = Callable[..., Small]
RunPlanted = Callable[..., Small]
"""All take a method, a backend, and settings with `__` for the dots; the last one a fault first."""


@pytest.fixture
def config_roots() -> list[Path]:
    """Folders of configs; a test that brings some of its own overrides this."""
    return [shipped_configs()]


@pytest.fixture
def compose_small(tmp_path: Path, config_roots: list[Path]) -> ComposeSmall:
    """Compose the only cell of a small spec."""
    groups = read_groups(config_roots)

    def make(method: str = "lora", backend: str = "cpu", **settings: object) -> Composed:
        cell = _small(groups, method, backend, settings)
        return cell.spec, compose(cell, groups, str(tmp_path / "cache"))

    return make


@pytest.fixture
def run_small(config_roots: list[Path], tmp_path: Path) -> RunSmall:
    """Run a small cell by the real recipe and the real trainer in this process, and judge it."""
    groups = read_groups(config_roots)
    carry_one = _carrier(tmp_path, groups, Here())

    def run(method: str = "lora", backend: str = "cpu", **settings: object) -> Small:
        passage = carry_one(_small(groups, method, backend, settings))
        assert passage.evidence is not None and passage.run_dir is not None
        named = {verdict.name: verdict for verdict in passage.verdicts}
        tensors = read_tensors(passage.run_dir.tensors)
        config = passage.claim.config
        return Small(passage.evidence, named, passage.run_dir.path, tensors, config)

    return run


@pytest.fixture
def run_planted(run_small: RunSmall, compose_small: ComposeSmall) -> RunPlanted:
    """Run a small cell under a fault."""

    def run(fault: Fault, **settings: Any) -> Small:
        _, config = compose_small(**settings)
        with fault(config):
            return run_small(**settings)

    return run


def _small(groups: Groups, method: str, backend: str, settings: Mapping[str, object]) -> Cell:
    overrides = {k.replace("__", "."): v for k, v in settings.items() if "__" in k}
    axes = {axis: [v] for axis, v in settings.items() if "__" not in axis and axis != "recipe"}
    spec = Spec.model_validate(
        {
            "test_id": "small",
            "recipe": settings.get("recipe", "sft"),
            "matrix": {"backend": [backend], "method": [method], **axes},
            "overrides": {**(SMALLER if backend == "mlx" else SMALL), **overrides},
        }
    )
    (cell,), _ = expand(spec, groups, [backend])
    return cell
