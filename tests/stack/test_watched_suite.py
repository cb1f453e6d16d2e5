"""The suite's own cells, watched from the inside: both kinds of checks come to the same verdict.

`nox -s cpu -- --watch` does so for all cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from tests.stack.conftest import WAY, Judged, judged

from tunematrix.environments.table import Environment
from tunematrix.matrix.cells import expand
from tunematrix.matrix.groups import read_groups
from tunematrix.paths import shipped_configs
from tunematrix.run.executor import Executor
from tunematrix.spec.model import Spec
from tunematrix.workflow.context import RunContext
from tunematrix.workflow.passage import Passage, carry

SAME = {
    "moved": "watched_moved",
    "trainable": "watched_trainable",
    "frozen": "watched_frozen",
    "learning_rate": "watched_learning_rate",
    "optimizer_update": "watched_update",
    "clipping": "watched_clipping",
    "device": "watched_device",
    "labels": "watched_labels",
    "ranks": "watched_ranks",
}
"""The suite's check to that of watching which asks the same of any training."""

RunCell = Callable[..., Judged]


@pytest.fixture
def run_watched(tmp_path: Path, forking: Executor) -> RunCell:
    """Run four steps of a cell that is watched, and judge it by both kinds of checks."""
    groups = read_groups([shipped_configs()])

    def run(recipe: str, fault: str = "", **axes: str) -> Judged:
        spec = Spec.model_validate(
            {
                "test_id": "watched",
                "recipe": recipe,
                "timeout": 90,
                # Four steps teach no preference; the bound has to be there.
                **({"preference": {"min": 0.1}} if recipe == "dpo" else {}),
                "matrix": {axis: [option] for axis, option in axes.items()},
                "overrides": {
                    "train.max_steps": 4,
                    "train.max_length": 192,
                    "meters.held_out_rows": 8,
                },
            }
        )
        (cell,), _ = expand(spec, groups, ["cpu"])
        context = RunContext(
            environment=Environment("tests", "", ("cpu",)),
            groups=groups,
            run_id="1",
            root=tmp_path,
            isolation="auto",
            faults=(f"tunematrix.faults.{fault}",) if fault else (),
            keep_output=True,
            say=print,
            watch=True,
            here=forking,
        )
        passage = carry(Passage(cell), context, WAY)
        context.close(prune=False)
        return judged(passage)

    return run


# A recipe, and the axes of a cell of it.
CELLS = {
    "TRL and PEFT": ("sft", {"method": "lora"}),
    "preferences": ("dpo", {"method": "lora", "data": "prompt-completion"}),
    "several processes by Accelerate": ("sft", {"launcher": "ddp", "data": "unequal"}),
    "a loop of ours": ("sft", {"method": "custom-lora"}),
}


def _but(first: str, kinds: Iterable[str]) -> list[object]:
    """Return the first as it is, and others for a run a day."""
    late = [pytest.mark.nightly]
    return [pytest.param(kind, marks=[] if kind == first else late) for kind in kinds]


@pytest.mark.parametrize("kind", _but("TRL and PEFT", CELLS))
def test_honest_cells_pass_both(kind: str, run_watched: RunCell) -> None:
    """And each check of the pairs that agree has been made, where the suite makes it."""
    recipe, axes = CELLS[kind]
    ran = run_watched(recipe, **axes)
    assert ran.failed == set()
    due = {watched for own, watched in SAME.items() if own in ran.verdicts}
    assert due - set(ran.verdicts) == set()


# A fault of the catalogue, the cell that it is planted in, and the pair that must fail.
FAULTS = {
    "optimization:learning_rate_zero": ({"method": "lora"}, "learning_rate"),
    "optimization:one_tensor_left_out": ({"method": "lora"}, "moved"),
    "optimization:bias_not_corrected": ({"method": "lora"}, "optimizer_update"),
    "ranks:gradients_not_averaged": ({"launcher": "ddp", "data": "unequal"}, "ranks"),
}


@pytest.mark.parametrize("fault", _but("optimization:learning_rate_zero", FAULTS))
def test_faults_fail_both(fault: str, run_watched: RunCell) -> None:
    """The pair that asks the same notices the same."""
    axes, own = FAULTS[fault]
    ran = run_watched("sft", fault, **axes)
    mine = "watched_trainable" if fault.endswith("left_out") else SAME[own]
    assert {own, mine} <= ran.failed
