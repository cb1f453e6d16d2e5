"""The step `generate` and what it can't use: the entry that is guilty, and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.stack.generate_step.world import BASE, World, save_adapter
from transformers import AutoModelForCausalLM, GenerationMixin

from tunematrix.configuration.answers import GenerateStep
from tunematrix.errors import BadInput, MachineProblem, StepFailed, WrongSetting
from tunematrix.evidence.log import EventLog
from tunematrix.faults.patching import replaced
from tunematrix.stack.steps import generate, opening
from tunematrix.stack.steps.job import StepJob
from tunematrix.stack.toyworld import models

BAD: dict[str, tuple[dict[str, Any], tuple[str, ...], str]] = {
    "a blank prompt": ({"prompts": ["Once", " \n"]}, ("prompts",), "prompt 2 is empty"),
    "a prompt beyond the model": (
        {"prompts": ["Once", "Once " * 600]},
        ("prompts",),
        "prompt 2 ('Once Once Once Once Once Once Once Once …') has 601 tokens, and the model has "
        "512 positions; shorten it",
    ),
    "an answer beyond the model": (
        {"prompts": ["Once upon a time"], "generation": {"max_new_tokens": 509}},
        ("generation", "max_new_tokens"),
        "don't fit into the model's 512 positions; lower it to 508",
    ),
    "no folder": ({"path": "/no/such"}, ("model", "path"), "there is no such folder"),
    "a folder of something else": ({"path": "/etc"}, ("model", "path"), "has no config.json"),
    "no toy": ({"path": "toyworld://bsae"}, ("model", "path"), "has no model 'bsae'"),
    "no scorer": (
        {"scorer": {"path": "/no/such"}},
        ("scorer", "path"),
        "/no/such can't be used: there is no such folder; likely a typing error",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used(world: World, name: str) -> None:
    """The guilty entry, and what is wrong with it."""
    settings, route, text = BAD[name]
    with pytest.raises(WrongSetting) as caught:
        world.run(**settings)
    assert caught.value.route == route
    assert text in str(caught.value)


def test_files_that_are_broken(world: World, tmp_path: Path) -> None:
    """Torn weights, a configuration of another kind, and an adapter of another model."""
    torn = _copy(tmp_path / "torn")
    (torn / "model.safetensors").write_bytes((torn / "model.safetensors").read_bytes()[:1000])
    unreadable = _copy(tmp_path / "unreadable")
    (unreadable / "config.json").write_text("{")
    other = tmp_path / "other"
    save_adapter(models.resolve("toyworld://untied", tmp_path / "cache"), other)
    config = json.loads((other / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(models.BASE)
    (other / "adapter_config.json").write_text(json.dumps(config))
    for folder in (torn, unreadable, other):
        with pytest.raises(WrongSetting, match="can't be loaded") as caught:
            world.run(str(folder))
        assert caught.value.route == ("model", "path")
        assert str(folder) in str(caught.value)
    with pytest.raises(WrongSetting, match="can't be loaded") as caught:
        world.run(scorer={"path": str(torn)})
    assert caught.value.route == ("scorer", "path")


def test_weights_that_became_nan(world: World, tmp_path: Path) -> None:
    """Nothing is drawn from them."""
    model = AutoModelForCausalLM.from_pretrained(models.BASE)
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    broken = _copy(tmp_path / "broken")
    model.save_pretrained(broken)
    for temperature in (0.0, 1.0):
        with pytest.raises(StepFailed, match="the model's logits aren't finite"):
            world.run(str(broken), generation={"temperature": temperature})


def test_a_folder_that_cannot_be_written_to(world: World, tmp_path: Path) -> None:
    """It is the machine's problem, and what was there stays."""
    settings = GenerateStep.model_validate({"model": {"path": BASE}, "prompts": ["Once"]})
    (tmp_path / generate.FILE).mkdir()
    with (
        EventLog(tmp_path / "events.jsonl") as events,
        pytest.raises(MachineProblem, match="can't be written"),
    ):
        generate.run(settings, StepJob("generate", world.config, events, tmp_path))
    assert not issubclass(MachineProblem, BadInput)


def _copy(folder: Path) -> Path:
    folder.mkdir()
    for file in models.BASE.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_a_device_with_too_little_memory(world: World) -> None:
    """It is the machine's problem, and not the model's folder that is wrong."""

    def wrap(original: Any) -> Any:
        def fail(*args: Any, **given: Any) -> Any:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

        return fail

    for owner, name in ((GenerationMixin, "generate"), (opening, "load")):
        with (
            replaced(owner, name, wrap),
            pytest.raises(MachineProblem, match=r"lower generation\.batch_size"),
        ):
            world.run()
