"""Cells of the shipped suite, run in this process: a fault is planted around the call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate

from tunematrix.checks.judge import judge
from tunematrix.checks.verdict import Claim, Verdict
from tunematrix.evidence import Evidence, Exit
from tunematrix.evidence.events import Finished
from tunematrix.evidence.log import EventLog, read_events
from tunematrix.evidence.run_dir import RunDir
from tunematrix.evidence.tensors import Array, read_tensors
from tunematrix.matrix.cells import expand
from tunematrix.matrix.compose import compose
from tunematrix.matrix.groups import read_groups
from tunematrix.paths import shipped_configs
from tunematrix.spec.loader import load_specs
from tunematrix.spec.model import Spec
from tunematrix.stack.recipes import sft

RunCell = Callable[[str], "Judged"]
"""Takes a cell's id."""


@dataclass(frozen=True)
class Judged:
    """A cell that has run, and what the checks said."""

    evidence: Evidence
    verdicts: dict[str, Verdict]

    @property
    def failed(self) -> set[str]:
        """Names of the checks that failed."""
        return {name for name, verdict in self.verdicts.items() if verdict.outcome == "failed"}


@pytest.fixture
def run_here(tmp_path: Path) -> RunCell:
    """Run a cell of the shipped suite in this process, and judge it by its spec."""
    groups = read_groups([shipped_configs()])

    def run(cell_id: str) -> Judged:
        name, _, rest = cell_id.partition("[")
        backend = rest.partition("-")[0].removesuffix("]")
        (spec,) = load_specs([shipped_configs() / "specs" / f"{name}.yaml"])
        cells, _ = expand(spec, groups, [backend])
        (cell,) = (cell for cell in cells if cell.id == cell_id)
        config = {**compose(cell, groups.roots), "cache_dir": str(tmp_path / "cache")}
        # A fault is held against an honest run of the same test: neither may read the other's.
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        with EventLog(folder / "events.jsonl") as events:
            instantiate(config["recipe"]["implementation"])(config, events, folder)  # type: ignore[index, call-overload]  # a composed configuration
            events.write(Finished())
        end = Exit(0, None, False, (), 0.0, "foreground")
        evidence = Evidence(end, read_events(folder / "events.jsonl"), "", "", ())
        verdicts = judge(evidence, Claim(spec, config))
        return Judged(evidence, {verdict.name: verdict for verdict in verdicts})

    return run


SMALL: Mapping[str, object] = {
    "train.max_steps": 3,
    "train.batch_size": 4,
    "meters.held_out_rows": 8,
}


@dataclass(frozen=True)
class Small(Judged):
    """A small cell that has run in this process.

    Attributes:
        folder: its run directory; tensors: what it kept for relations.
        config: what it was composed to.
    """

    folder: Path
    tensors: Mapping[str, Array]
    config: Mapping[str, Any]

    def stage(self, kind: str) -> dict[str, Array]:
        """Return the tensors of a kind, such as `gradient/0`, by the rest of their names."""
        start = f"{kind}/"
        return {n.removeprefix(start): t for n, t in self.tensors.items() if n.startswith(start)}


Composed = tuple[Spec, dict[str, Any]]
ComposeSmall = Callable[..., Composed]
RunSmall = Callable[..., Small]
"""Both take a method, a backend, and settings with `__` for the dots."""


@pytest.fixture
def config_roots() -> list[Path]:
    """Folders of configs; a test that brings some of its own overrides this."""
    return [shipped_configs()]


@pytest.fixture
def compose_small(tmp_path: Path, config_roots: list[Path]) -> ComposeSmall:
    """Compose the only cell of a small spec."""
    groups = read_groups(config_roots)

    def make(method: str = "lora", backend: str = "cpu", **settings: object) -> Composed:
        overrides = {k.replace("__", "."): v for k, v in settings.items() if "__" in k}
        axes = {axis: [v] for axis, v in settings.items() if "__" not in axis}
        spec = Spec.model_validate(
            {
                "test_id": "small",
                "recipe": "sft",
                "matrix": {"backend": [backend], "method": [method], **axes},
                "overrides": {**SMALL, **overrides},
            }
        )
        (cell,), _ = expand(spec, groups, [backend])
        return spec, {**compose(cell, groups.roots), "cache_dir": str(tmp_path / "cache")}

    return make


@pytest.fixture
def run_small(compose_small: ComposeSmall, tmp_path: Path) -> RunSmall:
    """Run a small cell by the real recipe and the real trainer, and judge it."""

    def run(method: str = "lora", backend: str = "cpu", **settings: object) -> Small:
        spec, config = compose_small(method, backend, **settings)
        folder = RunDir.create(tmp_path, f"small-{len(list(tmp_path.iterdir()))}")
        with EventLog(folder.events) as events:
            sft.run(config, events, folder.output)
            events.write(Finished())
        end = Exit(0, None, False, (), 1.0, "foreground")
        evidence = Evidence(end, read_events(folder.events), "", "", ())
        verdicts = judge(evidence, Claim(spec, config))
        tensors = read_tensors(folder.tensors)
        named = {verdict.name: verdict for verdict in verdicts}
        return Small(evidence, named, folder.path, tensors, config)

    return run
