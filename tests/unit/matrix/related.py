"""Relations between cells of small config groups, and what is planned of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunematrix.environments.table import Environment
from tunematrix.errors import BadInput
from tunematrix.matrix.groups import Groups
from tunematrix.matrix.plan import Plan, plan
from tunematrix.spec import Spec, load_specs

CELL = """
defaults: [{recipe: sft}, {method: lora}, {quantizer: none}, {backend: cpu}]
train: {batch_size: 8, accumulation: 1, seed: 0}
meters: {tensors: false}
"""
RATES = "learning_rates: {adaptive: 0.01, plain: 1.0}\n"
SMALL = {
    "cell.yaml": CELL,
    "recipe/sft.yaml": "name: sft\n",
    "method/lora.yaml": "name: lora\ntrains_base: false\n" + RATES,
    "method/full.yaml": "name: full\ntrains_base: true\n" + RATES,
    "quantizer/none.yaml": "name: none\n",
    "quantizer/int4.yaml": "name: int4\ncapabilities:\n"
    "  backend: {cpu: true, cuda: true}\n"
    "  method: {lora: true, full: {reason: no gradient, link: 'https://e.org', raises: E}}\n",
    "backend/cpu.yaml": "name: cpu\n",
    "backend/cuda.yaml": "name: cuda\n",
    "backend/mlx.yaml": "name: mlx\n",
}
ARMS = "  arms:\n    one: {train.batch_size: 8}\n    two: {train.batch_size: 4}\n"
SAME = "  compare: [gradients]\n"
CPU = Environment("cpu", "", ("cpu",))


def specs(**texts: str) -> list[Spec]:
    """Load specs of the recipe sft by their names."""
    for name, text in texts.items():
        Path(f"{name}.yaml").write_text(f"test_id: {name}\nrecipe: sft\n{text}", encoding="utf-8")
    return list(load_specs([Path(f"{name}.yaml") for name in texts]))


def relating(arms: str = ARMS, head: str = "", more: str = "") -> str:
    """Return the rest of a spec with a relation."""
    return f"{head}relation:\n{arms}{SAME}{more}"


def arms_of(found: Plan) -> dict[str, list[str]]:
    """Return relation to the ids of its arms."""
    return {one.id: [arm.cell.id for arm in one.arms] for one in found.relations}


def refused(groups: Groups, **texts: str) -> list[str]:
    """Return the lines with which specs are refused."""
    with pytest.raises(BadInput) as caught:
        plan(specs(**texts), groups, CPU)
    return str(caught.value).splitlines()[1:]
