"""Writes relations and their tables into a project, and reads what their arms left."""

from __future__ import annotations

import json
import platform
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

TABLE = f"conf/tolerances/plain-{platform.machine()}.yaml"
ARMS = "{one: {train.accumulation: 1}, two: {train.accumulation: 2}}"
PAIR = ("same_gradients", "same_gradients_mean")


def relate(
    project: Project, name: str, arms: str = ARMS, says: str = "", more: str = "", **fields: str
) -> None:
    """Write a relation of gradients, within 1e-6 if not said otherwise."""
    says = says or "compare: [gradients], tolerance: {gradients: 1.0e-6}"
    text = f"relation: {{arms: {arms}, {says}}}\n{more}"
    project.spec(name, fields.pop("recipe", "keep"), text, **fields)


def tabulate(project: Project, spread: dict[str, float], versions: str = "{}") -> None:
    """Write a table of tolerances for this machine: relation to honest difference."""
    rows = {name: dict.fromkeys(PAIR, figure) for name, figure in spread.items()}
    head = "recorded: '2026-01-02'\nhardware: x\nseeds: 20\nthreads: 1\n"
    project.write(TABLE, f"{head}versions: {versions}\nspread: {json.dumps(rows)}\n")


def ran(project: Project) -> list[str]:
    """The cells of all runs, without their digests, as often as they ran."""
    logs = project.root.glob(".tunematrix/plain/runs/*/ran")
    names = (name for log in logs for name in log.read_text().splitlines())
    return sorted(name.rpartition("-")[0] for name in names)


def tensors(project: Project) -> list[str]:
    """The cells whose tensors are still there."""
    found = project.root.glob(".tunematrix/plain/runs/*/*/tensors.safetensors")
    return sorted(path.parent.name.rpartition("-")[0] for path in found)


OFF = "{one: {train.accumulation: 1}, far: {train.weight_decay: 0.5}}"


UNRECORDED = (
    f"no tolerance is recorded for plain-{platform.machine()}; 0.005 is used; "
    "record it: nox -s plain -- -m relation --seeds 20; tunematrix tolerances -e plain"
)
