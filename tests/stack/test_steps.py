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
from tunematrix.errors import StepFailed, WrongSetting
from tunematrix.evidence.events import StepTrained
from tunematrix.matrix.cells import expand
from tunematrix.matrix.groups import read_groups
from tunematrix.paths import shipped_configs
from tunematrix.spec.matrix import Matrix
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
        matrix=Matrix.of({"quantizer": (quantizer,)}),
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
    "training": {"max_steps": 30, "batch_size": 8, "learning_rate": 0.01, "threads": 1},
}
TOY_DPO: Steps = {
    "model": {"path": "{sft}"},
    "dataset": {"path": "toyworld://preferences"},
    "alignment": {"max_steps": 4, "batch_size": 8, "learning_rate": 0.004, "threads": 1},
    "expect": {"preference_min": 0.9},
}


def both(**alignment: Any) -> Steps:
    """Both steps on the toy world, with settings of one's own for the second."""
    sft = {**TOY_SFT, "expect": {"loss_max": 2.0}}
    return {"sft": sft, "dpo": {**TOY_DPO, "alignment": {**TOY_DPO["alignment"], **alignment}}}


@pytest.mark.each_time(1)
@pytest.mark.parametrize("adapter", ["continue", "merge"])
def test_a_preference_is_learned_from_the_adapter_on(carry_here: Carry, adapter: str) -> None:
    """Whether that is trained on, or lies below a new one."""
    found = run(carry_here, both(adapter=adapter))
    assert not found.failed, found.verdicts
    of_start = "step_merged" if adapter == "merge" else "step_started"
    assert {of_start, "step_changed", "step_saved", "step_preference"} <= found.verdicts.keys()


@pytest.mark.each_time(1)
@pytest.mark.parametrize(
    "quantizer", ["bnb-nf4", "bnb-int8", "quanto-int8", "torchao-int8", "hqq-int4"]
)
def test_a_quantized_base_goes_the_same_way(carry_here: Carry, quantizer: str) -> None:
    """What was saved scores as what was trained did, over each quantizer."""
    training = {**TOY_SFT["training"], "method": "qlora", "max_steps": 8}
    steps = {**both(), "sft": {**TOY_SFT, "training": training}}
    found = run(carry_here, steps, quantizer)
    assert not found.failed - {"step_preference"}, found.verdicts


FAULTS = {
    ("begins_with_the_base", "continue"): "step_started",
    ("begins_with_another_adapter", "merge"): "step_started",
    ("merges_twice", "merge"): "step_merged",
    ("merges_nothing", "merge"): "step_merged",
    ("saves_what_it_began_with", "continue"): "step_saved",
    ("swaps_the_answers", "continue"): "step_preference",
    ("most_steps_do_nothing", "continue"): "step_loss",
}


@pytest.mark.each_time(1)
@pytest.mark.parametrize(("fault", "adapter"), FAULTS)
def test_a_planted_fault_is_noticed(carry_here: Carry, fault: str, adapter: str) -> None:
    """By the check that stands for it."""
    name = f"{Path(__file__).with_name('step_faults.py')}:{fault}"
    found = run(carry_here, both(adapter=adapter), fault=name)
    assert FAULTS[fault, adapter] in found.failed, found.verdicts


def test_a_step_that_trains_nothing_fails(carry_here: Carry) -> None:
    """At once, and says why."""
    name = f"{Path(__file__).with_name('step_faults.py')}:steps_do_nothing"
    with pytest.raises(StepFailed, match="changed none of the 28 trained tensors"):
        run(carry_here, {"sft": TOY_SFT}, fault=name)


def test_full_training_saves_a_model(carry_here: Carry, tmp_path: Path) -> None:
    """Every parameter moves, and what is saved is a whole model."""
    folder = tmp_path / "full"
    training = {
        **TOY_SFT["training"],
        "method": "full",
        "max_steps": 3,
        "learning_rate": 0.001,
        "output_dir": str(folder),
    }
    found = run(carry_here, {"sft": {**TOY_SFT, "training": training}})
    assert not found.failed
    assert trained(found)["sft"].moved == trained(found)["sft"].tensors == 20
    assert (folder / "model.safetensors").is_file() and (folder / "config.json").is_file()


@pytest.mark.parametrize(
    ("training", "quantizer", "route", "says"),
    [
        ({"method": "qlora"}, "none", ("training", "method"), "name one, such as bnb-nf4"),
        ({"method": "full"}, "bnb-nf4", ("training", "method"), "integer weights take no gradient"),
    ],
)
def test_a_method_that_can_not_be_is_refused(
    carry_here: Carry, training: Steps, quantizer: str, route: tuple[str, ...], says: str
) -> None:
    """With the entry that is to blame."""
    steps = {"sft": {**TOY_SFT, "training": {**TOY_SFT["training"], **training}}}
    with pytest.raises(WrongSetting, match=says) as caught:
        run(carry_here, steps, quantizer)
    assert caught.value.route == route


def test_a_variable_without_a_step_is_refused(carry_here: Carry) -> None:
    """With the steps there are."""
    with pytest.raises(WrongSetting, match=r"\{dpo\} is no earlier step"):
        run(carry_here, {"sft": {**TOY_SFT, "model": {"path": "{dpo}"}}})


@pytest.mark.each_time(1)
@pytest.mark.parametrize("model", ["qwen", "gemma", "gpt2"])
def test_other_architectures_go_the_same_way(carry_here: Carry, model: str) -> None:
    """Each with the tokenizer that lies in its folder."""
    start = {"model": {"path": f"toyworld://{model}"}}
    sft = {**TOY_SFT, **start, "training": {**TOY_SFT["training"], "max_steps": 2}}
    dpo = {**TOY_DPO, "alignment": {**TOY_DPO["alignment"], "max_steps": 2}, "expect": {}}
    generation = {"max_new_tokens": 8, "threads": 1}
    prompts = {"path": "toyworld://preferences"}
    asked = {"model": {"path": "{dpo}"}, "dataset": prompts, "generation": generation}
    found = run(carry_here, {"sft": sft, "dpo": dpo, "generate": asked})
    assert not found.failed, found.verdicts
