"""Steps of a pipeline on MLX for real: a tiny model is fine-tuned by mlx-lm, asked and served."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file
from tests.stack.conftest import Carry, Judged, judged

from tunematrix.configuration.steps import PipelineSteps
from tunematrix.errors import StepFailed, WrongSetting
from tunematrix.evidence.events import Served, ServedAnswer, StepGrammar, StepTrained, StepWarning
from tunematrix.matrix.cells import Exclusion, expand
from tunematrix.matrix.groups import read_groups
from tunematrix.paths import shipped_configs
from tunematrix.spec import Spec
from tunematrix.spec.bounds import GenerationBound
from tunematrix.spec.matrix import Matrix
from tunematrix.stack.toyworld import models
from tunematrix.stack.toyworld.models import BASE

Steps = Mapping[str, Any]

FAULTS = Path(__file__).with_name("mlx_step_faults.py")
SFT: Steps = {
    "model": {"path": "toyworld://base"},
    "dataset": {"path": "toyworld://stories"},
    "training": {"max_steps": 4, "batch_size": 4, "learning_rate": 0.02},
}
GENERATE: Steps = {
    "model": {"path": "{sft}"},
    "prompts": [
        "Once upon a time",
        "Once",
        "Once upon a time a shy wolf named Basil",
        "Once upon a time a brave fox named Tessa lived in Brook. One day Tessa found a",
    ],
    "generation": {"max_new_tokens": 12},
}
SERVE: Steps = {
    "model": {"path": "{sft}"},
    "prompts": ["Once upon a time", "Once upon a time a shy wolf named Basil"],
    "max_tokens": 10,
}


FORGETFUL = "most_steps_do_nothing"


def sft(**training: Any) -> Steps:
    """Fine-tuning on the toy world, with settings of one's own."""
    return {**SFT, "training": {**SFT["training"], **training}}


KNOWN: Steps = {
    **sft(max_steps=2, learning_rate=1e-4),
    "dataset": {"path": "toyworld://stories/A"},
    "expect": {"loss_max": 0.45},
}
"""Of the dialect that the base knows."""


def run(carry: Carry, steps: Steps, quantizer: str = "none", fault: str = "") -> Judged:
    """Take steps in one cell of MLX; what one raises is raised."""
    (cell,), _ = expand(_spec(steps, quantizer), read_groups([shipped_configs()]), ["mlx"])
    return judged(carry(cell, f"{FAULTS}:{fault}") if fault else carry(cell))


def _spec(steps: Steps, quantizer: str = "none") -> Spec:
    return Spec(
        test_id="mlx-steps",
        recipe="pipeline",
        matrix=Matrix.of({"backend": ("mlx",), "quantizer": (quantizer,)}),
        steps=PipelineSteps.model_validate(steps),
        generation=GenerationBound(min_grammatical=0.9),
    )


def test_what_is_trained_is_what_is_asked(carry_here: Carry, tmp_path: Path) -> None:
    """An adapter as mlx-lm saves it, which its own program reads, and which changes answers."""
    folder = tmp_path / "adapter"
    steps = {"sft": sft(output_dir=str(folder)), "generate": GENERATE}
    found = run(carry_here, steps)
    assert found.failed <= {"step_grammatical"}, found.verdicts
    owed = {"step_changed", "step_saved", "step_adapter_acts", "step_batch_equals_single"}
    assert {*owed, "step_cache_exact"} <= found.verdicts.keys()
    (trained,) = found.evidence.all(StepTrained)
    assert trained.moved == trained.tensors == 28 and trained.after < trained.before
    assert len(load_file(folder / "adapters.safetensors")) == 28
    assert json.loads((folder / "adapter_config.json").read_text())["model"] == str(BASE)
    assert {one.name for one in folder.iterdir() if one.name.startswith(".")} == set()
    words = ("generate", "--model", str(BASE), "--adapter-path", str(folder), "--max-tokens", "4")
    subprocess.run(
        [sys.executable, "-m", "mlx_lm", *words, "--prompt", "Once"], check=True, timeout=120
    )


@pytest.mark.each_time(1)
@pytest.mark.parametrize(
    ("training", "quantizer"),
    [
        ({"method": "full", "learning_rate": 0.001, "max_steps": 2}, "none"),
        ({"method": "qlora"}, "mlx-int4"),
        ({"method": "qlora", "max_steps": 2}, "mlx-int8"),
    ],
    ids=lambda one: one if isinstance(one, str) else one["method"],
)
def test_other_methods_go_the_same_way(
    carry_here: Carry, training: dict[str, Any], quantizer: str
) -> None:
    """A whole model is saved, and adapters over a quantized base, and both are asked again."""
    found = run(carry_here, {"sft": sft(**training), "generate": GENERATE}, quantizer)
    assert found.failed <= {"step_grammatical"}, found.verdicts
    assert ("step_adapter_acts" in found.verdicts) is (training["method"] == "qlora")


@pytest.mark.each_time(1)
@pytest.mark.parametrize("model", ["qwen", "phi3", "untied"])
def test_other_architectures_go_the_same_way(carry_here: Carry, model: str) -> None:
    """Each with the tokenizer that lies in its folder."""
    start = {"model": {"path": f"toyworld://{model}"}}
    asked = {**GENERATE, "generation": {"max_new_tokens": 6, "batch_size": 3}}
    found = run(carry_here, {"sft": {**sft(max_steps=1), **start}, "generate": asked})
    assert not found.failed - {"step_grammatical"}, found.verdicts


@pytest.mark.nightly
def test_a_loss_that_is_expected(carry_here: Carry) -> None:
    """A dialect that the base knows has the loss that its base has; a new one is learned."""
    assert not run(carry_here, {"sft": KNOWN}).failed
    expect = {"loss_max": 4.5}
    assert not run(carry_here, {"sft": {**sft(max_steps=16), "expect": expect}}).failed
    found = run(carry_here, {"sft": {**sft(max_steps=16), "expect": expect}}, fault=FORGETFUL)
    assert found.failed == {"step_loss"}


@pytest.mark.each_time(1)
@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("saves_what_it_began_with", "step_saved"),
        ("saves_one_tensor_less", "step_saved"),
        ("names_another_scale", "step_saved"),
        ("learns_next_but_one", "step_loss"),
        ("counts_twice_the_loss", "step_loss"),
        ("counts_the_padding", "step_loss"),
        ("loads_no_adapter", "step_adapter_acts"),
        ("merges_into_the_base", "step_adapter_acts"),
        ("ignores_padding", "step_batch_equals_single"),
        ("rounds_its_cache", "step_cache_exact"),
    ],
)
def test_a_planted_fault_is_noticed(carry_here: Carry, fault: str, check: str) -> None:
    """By the check that stands for it."""
    steps: dict[str, Steps] = {"sft": KNOWN if check == "step_loss" else SFT}
    if check not in ("step_saved", "step_loss"):
        steps["generate"] = GENERATE
    assert check in run(carry_here, steps, fault=fault).failed


def test_a_step_that_trains_nothing_fails(carry_here: Carry) -> None:
    """At once, and says why."""
    with pytest.raises(StepFailed, match="changed none of the 28 trained tensors"):
        run(carry_here, {"sft": sft()}, fault="steps_do_nothing")


@pytest.mark.parametrize(
    ("training", "key", "says"),
    [
        ({"max_grad_norm": 1.0}, "max_grad_norm", "clips nothing"),
        ({"save_steps": 2}, "save_steps", "no checkpoint that training can go on from"),
        ({"batch_size": 3000}, "batch_size", "mlx-lm fills each"),
        ({"method": "qlora"}, "method", "quantizer is none"),
    ],
)
def test_what_mlx_lm_cannot_do_is_refused(
    carry_here: Carry, training: dict[str, Any], key: str, says: str
) -> None:
    """With the entry that is to blame."""
    with pytest.raises(WrongSetting, match=says) as caught:
        run(carry_here, {"sft": sft(**training)})
    assert caught.value.route == ("training", key)


def test_a_model_that_mlx_lm_does_not_know(carry_here: Carry) -> None:
    """Its GPT-2 wants an entry that transformers doesn't write any more."""
    unknown = {**SFT, "model": {"path": "toyworld://gpt2"}}
    with pytest.raises(WrongSetting, match=r"can't be loaded by mlx-lm.*n_ctx") as caught:
        run(carry_here, {"sft": unknown})
    assert caught.value.route == ("model", "path")


def test_a_model_that_mlx_lm_loads_and_cannot_compute(carry_here: Carry, tmp_path: Path) -> None:
    """Its Gemma 3 takes at least as many layers as lie between two that attend to all."""
    folder = models.resolve("toyworld://gemma", tmp_path)
    described = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**described, "sliding_window_pattern": 6}))
    shallow = {**SFT, "model": {"path": str(folder)}}
    with pytest.raises(WrongSetting, match=r"can't be computed \(IndexError") as caught:
        run(carry_here, {"sft": shallow})
    assert caught.value.route == ("model", "path")


def test_training_is_not_resumed(carry_here: Carry) -> None:
    """What mlx-lm saves has no state of the optimizer."""
    with pytest.raises(WrongSetting, match="saves no state of the optimizer") as caught:
        run(carry_here, {"sft": SFT, "resume": "latest"})
    assert caught.value.route == ("resume",)


def test_what_it_does_otherwise_is_said(carry_here: Carry, tmp_path: Path) -> None:
    """Rows that are left out, micro-batches that weigh the same, threads that nobody heeds."""
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"text": "Once" * n}) + "\n" for n in (1, 2, 3)))
    told = sft(max_steps=1, batch_size=2, gradient_accumulation_steps=2, threads=1)
    found = run(carry_here, {"sft": {**told, "dataset": {"path": str(file)}}})
    said = " ".join(one.text for one in found.evidence.all(StepWarning))
    for part in ("longest 1 row of 3", "the same weight", "threads=1 isn't heeded"):
        assert part in said
    assert len(found.evidence.all(StepTrained)[0].logged) == 1


def test_aligning_is_declared_unsupported(carry_here: Carry) -> None:
    """With the reason, and tried all the same it is refused before anything is trained."""
    align = {
        "model": {"path": "{sft}"},
        "dataset": {"path": "toyworld://preferences"},
        "alignment": {"max_steps": 1},
    }
    spec = _spec({"sft": SFT, "dpo": align})
    cells, (no,) = expand(spec, read_groups([shipped_configs()]), ["mlx"])
    assert not cells and isinstance(no, Exclusion)
    assert no.reason == "mlx-lm has no trainer of preferences"
    with pytest.raises(WrongSetting, match="backend mlx has no step dpo"):
        carry_here(no.cell)


def test_an_adapter_of_the_other_library(carry_here: Carry, tmp_path: Path) -> None:
    """It is said whose it is, and how it is converted."""
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    steps = {"generate": {**GENERATE, "model": {"path": str(tmp_path)}}}
    with pytest.raises(WrongSetting, match=r"as peft saves it.*tunematrix\.stack\.adapters"):
        run(carry_here, steps)


def test_drawn_answers_come_again(carry_here: Carry) -> None:
    """With the same seed and the same batches."""
    drawn = {"max_new_tokens": 12, "temperature": 0.9, "seed": 3, "batch_size": 4}
    asked = {**GENERATE, "model": {"path": "toyworld://base"}, "generation": drawn}
    found = [run(carry_here, {"generate": asked}) for _ in range(2)]
    assert not found[0].failed
    assert found[0].evidence.all(StepGrammar) == found[1].evidence.all(StepGrammar)


def test_a_server_answers_as_the_model_does(carry_here: Carry) -> None:
    """With its adapter, as completions and chats, whole, streamed and beside others."""
    found = run(carry_here, {"sft": sft(), "serve": SERVE})
    assert not found.failed, found.verdicts
    owed = {"served_as_local", "served_streams_alike", "served_together", "server_left_nothing"}
    assert owed <= found.verdicts.keys()
    assert [one.model for one in found.evidence.all(Served)] == ["default_model"]
    assert {one.asked for one in found.evidence.all(ServedAnswer)} == {"completion", "chat"}


@pytest.mark.nightly
@pytest.mark.each_time(1)
@pytest.mark.parametrize("fault", ["serves_without_its_adapter", "serves_another_template"])
def test_a_server_that_serves_something_else(carry_here: Carry, fault: str) -> None:
    """Its answers aren't those of the model that was trained."""
    found = run(carry_here, {"sft": sft(), "serve": SERVE}, fault=fault)
    assert found.failed == {"served_as_local"}, found.verdicts
