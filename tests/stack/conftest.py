"""Cells of the shipped suite, run in this process: a fault is planted around the call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hydra.utils import instantiate

from tunematrix.checks.judge import judge
from tunematrix.checks.verdict import Claim, Verdict
from tunematrix.evidence import Evidence, Exit
from tunematrix.evidence.events import Finished
from tunematrix.evidence.log import EventLog, read_events
from tunematrix.matrix.cells import expand
from tunematrix.matrix.compose import compose
from tunematrix.matrix.groups import read_groups
from tunematrix.paths import shipped_configs
from tunematrix.spec.loader import load_specs

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
