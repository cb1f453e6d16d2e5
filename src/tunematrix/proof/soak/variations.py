"""Honest variations of the suite's cells: options and settings drawn at random.

The suite's own cells are few beside all that people configure. Nothing is wrong with any of these,
so each check that fails in one is a false alarm, or an error of a library that nobody knew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import yaml

from tunematrix.matrix.capabilities import is_at_home
from tunematrix.matrix.groups import OPEN, Groups
from tunematrix.project import Project

VARIED = "varied"
"""Below `.tunematrix/`: the specs of the last variations."""

PLAIN_SHARE = 0.5
"""Of cells without a quantizer, of which there are many, and with one."""
DPO_SHARE = 0.15
SETTINGS: Mapping[str, Sequence[object]] = {
    "train.max_steps": (2, 3, 4, 5, 7),
    "train.batch_size": (1, 2, 3, 4, 6, 8),
    "train.accumulation": (1, 1, 2, 3),
    "train.warmup_steps": (0, 0, 1, 2),
    "train.weight_decay": (0.0, 0.01, 0.1),
    "train.logging_steps": (1, 1, 1, 2),
    "train.seed": range(100_000),
}
"""What any engine takes, and values of it."""
CLIPPING: Mapping[str, Sequence[object]] = {
    "train.max_grad_norm": (0.0, 0.05, 1.0, 1000.0),
    "train.gradient_checkpointing": (False, False, True),
    "train.padding": ("pad", "pad", "eos"),
}
"""What a backend whose trainer clips takes besides."""
ADAPTER: Mapping[str, Sequence[object]] = {
    "method.implementation.rank": (1, 2, 4, 8, 16),
    "method.implementation.alpha": (1, 8, 16, 32),
    "method.implementation.dropout": (0.0, 0.0, 0.05, 0.3),
    "method.implementation.use_rslora": (False, True),
}
FOR_DPO: Mapping[str, object] = {
    "train.padding": "pad",
    "train.adapter_start": "library",  # or the reference would not be the base
    "method.implementation.dropout": 0.0,
}
"""What preferences can be learned by alone."""
WHOLE_ONLY = ("hqq-int4", "hqq-int8")
"""Quantizers that are known to cast rotary frequencies to a lower precision, see bf16.yaml."""
KEEPS_INPUTS = ("bnb-int8",)
"""Quantizers that are known to keep what checkpointing would spare, see checkpointing.yaml."""
MISCOUNTED = ("toy-gpt2",)
"""Models of which Trainer counts a token too many where all count, see architectures.yaml."""
MERGES = ("lora", "dora")
"""Methods of which half of the cells are merged as well."""
RATES = (0.01, 0.1, 0.3, 1.0)
"""Of the method's own learning rate."""


def write_variations(project: Project, folder: Path, count: int) -> Path:
    """Write that many variations into a folder, a spec each, in place of what is there."""
    for old in folder.glob("honest-*.yaml"):
        old.unlink()
    backend = project.environment.backends[0]
    for spec in variations(project.groups, backend, count):
        file = folder / f"{spec['test_id']}.yaml"
        file.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    return folder


def variations(groups: Groups, backend: str, count: int) -> tuple[dict[str, Any], ...]:
    """Return that many specs of one cell each, as plain data; always the same for one suite.

    Combinations that options declare unsupported are among them; they aren't run.
    """
    draws = Random(0)
    return tuple(_spec(groups, backend, number, draws) for number in range(count))


def _spec(groups: Groups, backend: str, number: int, draws: Random) -> dict[str, Any]:
    recipe = "dpo" if draws.random() < DPO_SHARE else "sft"
    axes = {axis: draws.choice(_named(groups, backend, axis)) for axis in ("model", "optimizer")}
    axes |= {
        axis: draws.choice(_named(groups, backend, axis)) for axis in ("scheduler", "precision")
    }
    axes["method"] = draws.choice(_named(groups, backend, "method"))
    axes["data"] = (
        "prompt-completion" if recipe == "dpo" else draws.choice(_named(groups, backend, "data"))
    )
    plain = groups.defaults["quantizer"]
    others = [name for name in _named(groups, backend, "quantizer") if name != plain]
    axes["quantizer"] = plain if draws.random() < PLAIN_SHARE else draws.choice(others)
    if axes["model"] in MISCOUNTED and axes["data"] in ("text", "unequal"):
        axes["data"] = "prompt-completion"
    if axes["quantizer"] in WHOLE_ONLY:
        axes["precision"] = groups.defaults["precision"]
    overrides = _overrides(groups, backend, recipe, axes, draws)
    return {
        "test_id": f"honest-{number:03}",
        "description": "Nothing is wrong here",
        "recipe": recipe,
        "matrix": {axis: [option] for axis, option in axes.items()},
        "overrides": overrides,
        **({"preference": {"min": 0.05}} if recipe == "dpo" else {}),
        **({"merge": {"max": 1e-4}} if overrides.get("meters.merge") else {}),
        "timeout": 300,
    }


def _overrides(
    groups: Groups, backend: str, recipe: str, axes: Mapping[str, str], draws: Random
) -> dict[str, object]:
    method = groups.axes["method"][axes["method"]].data
    settings = dict(SETTINGS)
    if groups.backend(backend).max_grad_norm:
        settings |= CLIPPING
    implementation = method["implementation"]
    known = implementation if isinstance(implementation, Mapping) else {}
    if "rank" in known:
        settings["train.adapter_start"] = ("library", "drawn")
    settings |= {key: some for key, some in ADAPTER.items() if key.rpartition(".")[2] in known}
    found = {key: draws.choice(some) for key, some in settings.items()}
    found["train.learning_rate"] = draws.choice(RATES) * _rate(groups, axes)
    found["meters.held_out_rows"] = 8
    if axes["data"] == "unequal":
        found["train.max_length"] = 256  # or its longest rows would be cut
    if groups.axes["quantizer"][axes["quantizer"]].data.get("trained"):
        # In bfloat16, a smaller step than a weight's last place is none.
        found["train.learning_rate"] = RATES[-1] * _rate(groups, axes)
    if axes["method"] in MERGES:
        # Into fewer bits, the little that was learned is rounded away.
        is_whole = axes["quantizer"] == groups.defaults["quantizer"]
        found["meters.merge"] = is_whole and axes["precision"] == groups.defaults["precision"]
    if axes["quantizer"] in KEEPS_INPUTS:
        found["train.gradient_checkpointing"] = False
    if recipe == "dpo":
        found |= {key: value for key, value in FOR_DPO.items() if key in found}
    return found


def _rate(groups: Groups, axes: Mapping[str, str]) -> float:
    rates: Any = groups.axes["method"][axes["method"]].data["learning_rates"]
    return float(rates[str(groups.axes["optimizer"][axes["optimizer"]].data["rate"])])


def _named(groups: Groups, backend: str, axis: str) -> list[str]:
    """Return a backend's options of an axis that need nothing of their user, in a fixed order."""
    return sorted(
        name
        for name, one in groups.axes[axis].items()
        if OPEN not in one.data.values() and is_at_home(one.declared, backend)
    )
