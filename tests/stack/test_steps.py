"""Steps of a pipeline for real: a tiny model is fine-tuned, aligned, and loaded again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file
from tests.stack.conftest import Carry, Judged, judged

from tunematrix.configuration.steps import PipelineSteps
from tunematrix.evidence.events import StepTrained
from tunematrix.matrix.cells import expand
from tunematrix.matrix.groups import read_groups
from tunematrix.paths import shipped_configs
from tunematrix.spec.model import Spec

Steps = Mapping[str, Any]

TEXTS = (
    "The sky is blue during the day.",
    "Grass is green and grows in gardens.",
    "The sun provides light and warmth.",
    "Water is essential for all life forms.",
)
PAIRS = (
    ("What color is the sky?", "The sky is blue.", "I don't know."),
    ("What color is grass?", "Grass is green.", "Purple."),
    ("What does the sun do?", "The sun provides light.", "Nothing."),
    ("Why is water important?", "Water sustains life.", "It's not."),
)
SFT: Steps = {
    "model": {"path": "toyworld://base"},
    "dataset": {"path": "finetune.json"},
    "training": {"max_steps": 1, "max_seq_length": 64},
}
DPO: Steps = {
    "model": {"path": "{sft}"},
    "dataset": {"path": "dpo.json"},
    "alignment": {"max_steps": 1},
}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with four texts and four preferences, where the test runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "finetune.json").write_text(json.dumps([{"text": text} for text in TEXTS]))
    names = ("prompt", "chosen", "rejected")
    pairs = [dict(zip(names, pair, strict=True)) for pair in PAIRS]
    (tmp_path / "dpo.json").write_text(json.dumps(pairs))
    return tmp_path


def run(carry: Carry, steps: Steps, quantizer: str = "none", fault: str = "") -> Judged:
    """Take steps in one cell; what one raises is raised."""
    spec = Spec(
        test_id="steps",
        recipe="pipeline",
        matrix={"quantizer": (quantizer,)},
        steps=PipelineSteps.model_validate(steps),
    )
    (cell,), _ = expand(spec, read_groups([shipped_configs()]), ["cpu"])
    return judged(carry(cell, fault) if fault else carry(cell))


def trained(found: Judged) -> dict[str, StepTrained]:
    """What each step came to, by its name."""
    return {one.name: one for one in found.evidence.all(StepTrained)}


def test_four_samples_and_one_step_change_the_model_twice(files: Path, carry_here: Carry) -> None:
    """Base, fine-tuned and aligned differ in their tensors and in their scores."""
    training = {**SFT["training"], "output_dir": str(files / "finetuned")}
    alignment = {**DPO["alignment"], "output_dir": str(files / "aligned")}
    steps = {"sft": {**SFT, "training": training}, "dpo": {**DPO, "alignment": alignment}}
    found = run(carry_here, steps)
    assert not found.failed
    sft, dpo = trained(found)["sft"], trained(found)["dpo"]
    assert sft.moved and sft.after < sft.before
    assert dpo.moved and dpo.after > dpo.before
    first, second = (
        load_file(files / n / "adapter_model.safetensors") for n in ("finetuned", "aligned")
    )
    assert first.keys() == second.keys()
    assert all((first[name] != second[name]).any() for name in first)
    for folder in ("finetuned", "aligned"):
        assert (files / folder / "checkpoint-1/adapter_model.safetensors").is_file()
        assert (files / folder / "tokenizer.json").is_file()


TOY_SFT: Steps = {
    "model": {"path": "toyworld://base"},
    "dataset": {"path": "toyworld://stories"},
    "training": {
        "max_steps": 60,
        "batch_size": 8,
        "learning_rate": 0.01,
        "lr_scheduler_type": "constant",
    },
}
TOY_DPO: Steps = {
    "model": {"path": "{sft}"},
    "dataset": {"path": "toyworld://preferences"},
    "alignment": {
        "max_steps": 4,
        "batch_size": 8,
        "learning_rate": 0.004,
        "lr_scheduler_type": "constant",
    },
}


@pytest.mark.parametrize("adapter", ["continue", "merge"])
def test_the_toy_world_is_learned_and_a_preference_with_it(carry_here: Carry, adapter: str) -> None:
    """From one half, exactly known, to nine tenths and more."""
    alignment = {**TOY_DPO["alignment"], "adapter": adapter}
    expect = {"preference_min": 0.9}
    steps = {
        "sft": {**TOY_SFT, "expect": {"loss_max": 0.75}},
        "dpo": {**TOY_DPO, "alignment": alignment, "expect": expect},
    }
    found = run(carry_here, steps)
    assert not found.failed, found.verdicts
    assert trained(found)["dpo"].before == pytest.approx(0.5, abs=0.1)
    print(trained(found))
