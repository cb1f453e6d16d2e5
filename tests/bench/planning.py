"""What planning and composing cost: many cells planned, and cells composed by us and by Hydra."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from tunematrix.matrix.cells import Cell
from tunematrix.matrix.compose import compose
from tunematrix.matrix.plan import plan
from tunematrix.project import Project
from tunematrix.spec import Spec
from tunematrix.spec.matrix import Matrix

AXES = {
    "method": ("lora", "dora"),
    "quantizer": ("none", "hqq-int4", "hqq-int8", "bnb-nf4"),
    "data": ("text", "chat", "unequal", "packed", "prompt-completion"),
    "optimizer": ("adamw", "adam", "sgd"),
    "scheduler": ("constant", "linear", "cosine"),
    "precision": ("fp32", "bf16", "fp16"),
}
"""1,080 cells a spec."""


def seconds_to_plan(project: Project, specs: int) -> tuple[int, float]:
    """Return how many cells some large specs come to, and the seconds that planning them took."""
    many = [
        Spec(test_id=f"s{n}", recipe="sft", matrix=Matrix.of(AXES), overrides={"train.seed": n})
        for n in range(specs)
    ]
    started = time.perf_counter()
    cells = plan(many, project.groups, project.environment).cells
    return len(cells), time.perf_counter() - started


def seconds_to_compose(project: Project, cells: list[Cell]) -> tuple[float, float]:
    """Return the median seconds of a cell, composed by us and by Hydra, alternating."""
    root = project.groups.roots[0]
    pairs = [(_ours(cell, project), _by_hydra(cell, root)) for cell in cells]
    ours, theirs = zip(*pairs, strict=True)
    return statistics.median(ours), statistics.median(theirs)


def _ours(cell: Cell, project: Project) -> float:
    started = time.perf_counter()
    compose(cell, project.groups)
    return time.perf_counter() - started


def _by_hydra(cell: Cell, root: Path) -> float:
    options = [f"{axis}={option}" for axis, option in cell.axes.items()]
    settings = [f"{key}={json.dumps(value)}" for key, value in cell.overrides.items()]
    started = time.perf_counter()
    with initialize_config_dir(str(root.resolve()), version_base="1.3"):
        OmegaConf.to_container(hydra_compose("cell", [*options, *settings]), resolve=True)
    return time.perf_counter() - started
