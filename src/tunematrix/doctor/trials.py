"""What doctor tries: cells that go the way of all cells, with a recipe of their own."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tunematrix.environments.table import Environment
from tunematrix.matrix.cells import Cell, Exclusion, expand
from tunematrix.matrix.groups import Groups
from tunematrix.spec.matrix import Matrix
from tunematrix.spec.model import Spec
from tunematrix.workflow import steps
from tunematrix.workflow.context import RunContext
from tunematrix.workflow.passage import Passage, Step, carry

DEVICE = "tunematrix.stack.trial.device"
QUANTIZER = "tunematrix.stack.trial.quantizer"

FOLDER = "doctor"
"""Where trials leave their evidence, as the cells of an environment do."""
SMALL = {"train.max_steps": 1, "meters.held_out_rows": 8}


def open_context(root: Path, groups: Groups, say: Callable[[str], None]) -> RunContext:
    """Return what the trials of one examination share, but for the backends that they need.

    Args:
        root: the project. groups: its config groups.
        say: takes one line of progress.
    """
    return RunContext(
        environment=Environment(FOLDER, "", ()),
        groups=groups,
        run_id=time.strftime("%Y%m%d-%H%M%S-") + str(os.getpid()),
        root=root,
        isolation="auto",
        faults=(),
        keep_output=True,
        say=say,
    )


def with_backends(context: RunContext, *backends: str) -> RunContext:
    """Return a context whose cells are forked from a process with what these backends preload."""
    return replace(context, environment=Environment(FOLDER, "", backends))


def try_device(context: RunContext, backend: str, timeout: int) -> Passage:
    """Claim a backend's device in a process of its own; `timeout` in seconds."""
    context.say(f"{backend}: trying its device")
    spec = Spec(test_id="doctor", recipe="sft", timeout=timeout)
    cell = Cell(f"doctor[{backend}]", spec, {**context.groups.defaults, "backend": backend}, {})
    way = (steps.compose, _with_recipe(DEVICE), steps.make_folder, steps.execute, steps.collect)
    return carry(Passage(cell), context, way)


def try_quantizer(context: RunContext, cell: Cell) -> Passage:
    """Load, quantize and train for one step, after what has to be compiled is.

    Raises:
        MachineProblem: that failed; the text has its last line and names its log.
    """
    context.say(f"{cell.axes['quantizer']} on {cell.axes['backend']}: trying it")
    place, compose, *rest = steps.EVIDENCE
    return carry(Passage(cell), context, (place, compose, _with_recipe(QUANTIZER), *rest))


def forget(passage: Passage) -> None:
    """Remove the folder of a trial: what worked leaves nothing to look into."""
    assert passage.run_dir is not None
    shutil.rmtree(passage.run_dir.path, ignore_errors=True)


def pairs(
    groups: Groups, backend: str, timeout: int
) -> tuple[tuple[Cell, ...], tuple[Exclusion, ...]]:
    """Return a backend's quantizers as cells, and those that are declared unsupported on it."""
    quantizers = tuple(groups.axes["quantizer"])
    spec = Spec(
        test_id="doctor",
        recipe="sft",
        matrix=Matrix.of({"quantizer": quantizers}),
        overrides=SMALL,
        timeout=timeout,
    )
    return expand(spec, groups, [backend])


def _with_recipe(name: str) -> Step:
    """Return the step that puts another recipe in the place of the composed one."""

    def exchange(passage: Passage, context: RunContext) -> Passage:
        config = passage.claim.config
        own = {"implementation": {"_target_": name, "_partial_": True}}
        recipe = config.recipe.model_copy(update=own)
        return replace(passage, config=config.model_copy(update={"recipe": recipe}))

    return exchange
