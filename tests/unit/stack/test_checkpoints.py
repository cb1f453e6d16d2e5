"""Checkpoints that training goes on from: the newest, a named one, and those that are refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from tests.tiny import tiny_configuration
from tests.unit.stack.saved import adapted, base, never, refusal, trainer

from tunematrix.evidence.events import StepWarning
from tunematrix.evidence.log import EventLog, read_events
from tunematrix.stack.steps.checkpoint_files import fault
from tunematrix.stack.steps.checkpoints import (
    Trained,
    check_fits,
    check_method,
    chosen,
    find,
    named,
    newest,
)
from tunematrix.stack.steps.job import StepJob
from tunematrix.stack.toyworld import models


def test_the_newest_is_taken(out: Path) -> None:
    """By its number, and not by its name or its age; what is called otherwise is no checkpoint."""
    assert newest(out, never) == out / "checkpoint-2"
    shutil.copytree(out / "checkpoint-2", out / "checkpoint-10")
    state = out / "checkpoint-10" / "trainer_state.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "global_step": 10}))
    shutil.copytree(out / "checkpoint-1", out / "checkpoint-best")
    shutil.copytree(out / "checkpoint-1", out / "tmp-checkpoint-99")
    (out / "checkpoint-11").write_text("a file")
    os.utime(out / "checkpoint-1")
    assert newest(out, never) == find("latest", out, never) == out / "checkpoint-10"
    shutil.rmtree(out / "checkpoint-10")
    assert newest(out, never) == out / "checkpoint-2"


@pytest.mark.parametrize("kind", ["adapter", "model"])
def test_what_was_saved_is_whole_and_fits(
    trained: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    """The model that is trained on need not be the one that was saved, but one like it."""
    folder = trained[kind] / "checkpoint-2"
    assert fault(folder) == ""
    model = adapted() if kind == "adapter" else base()
    assert check_fits(folder, Trained.of(model), 3) == 2
    trainer(model, tmp_path, 3).train(resume_from_checkpoint=str(folder))
    assert newest(tmp_path, never) == tmp_path / "checkpoint-3"


def test_ways_to_name_one(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its path, by its name in the folder, from home, by a link, and as a copy."""
    folder = out / "checkpoint-1"
    shutil.copytree(folder, out / "kept")
    (out / "link").symlink_to(folder)
    monkeypatch.setenv("HOME", str(out))
    monkeypatch.chdir(out.parent)
    for given in (str(folder), f"{folder}/", "checkpoint-1", "~/checkpoint-1", "out/checkpoint-1"):
        assert named(given, out).samefile(folder)
    assert find("checkpoint-1", out, never) == folder
    assert named("link", out).samefile(folder)
    assert named("kept", out) == out / "kept"


HONEST: list[Callable[[], PeftModel]] = [
    adapted,
    lambda: adapted(lora_alpha=8.0),
    lambda: adapted(lora_dropout=0.1),
    lambda: adapted(target_modules=["v_proj", "q_proj"]),
    lambda: adapted(init_lora_weights="gaussian"),
    lambda: adapted().to(torch.bfloat16),
    lambda: adapted().eval(),
]


@pytest.mark.parametrize("build", HONEST)
def test_models_that_differ_in_nothing_that_was_saved(
    trained: dict[str, Path], build: Callable[[], PeftModel]
) -> None:
    """A dropout, an order, a beginning and a type of its own make no other model."""
    folder = trained["adapter"] / "checkpoint-2"
    assert check_fits(folder, Trained.of(build()), 100) == 2


@pytest.mark.parametrize(
    "settings",
    [{"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"target_modules": ["embed_tokens"]}],
)
def test_adapters_with_more_than_two_factors(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Their tensors go by other names in a file than in a model."""
    trainer(adapted(**settings), tmp_path, 1).train()
    folder = newest(tmp_path, never)
    assert folder is not None
    assert check_fits(folder, Trained.of(adapted(**settings)), 2) == 1
    assert "doesn't fit what is trained" in refusal(
        lambda: check_fits(folder, Trained.of(adapted()), 2)
    )


def test_a_base_that_was_moved(out: Path) -> None:
    """Where its folder isn't there any more, the tensors alone tell."""
    file = out / "checkpoint-1" / "adapter_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "base_model_name_or_path": str(out / "gone")}))
    assert check_fits(out / "checkpoint-1", Trained.of(adapted()), 2) == 1


def test_none_to_go_on_from(tmp_path: Path, out: Path) -> None:
    """It is said that there is none, and what there is."""
    text = f"latest: there is nothing to go on from: {tmp_path / 'no'}: isn't there, and no check"
    assert text in refusal(lambda: find("latest", tmp_path / "no", never))
    (tmp_path / "empty").mkdir()
    assert "is empty" in refusal(lambda: find("latest", tmp_path / "empty", never))
    (tmp_path / "empty" / "logs").mkdir()
    assert "holds logs" in refusal(lambda: find("latest", tmp_path / "empty", never))
    for name in ("checkpoint-1", "checkpoint-2"):
        (out / name / "optimizer.pt").unlink()
    said: list[str] = []
    text = refusal(lambda: find("latest", out, said.append))
    assert "checkpoint-2 isn't whole (optimizer.pt isn't there); checkpoint-1 isn't" in text
    assert len(said) == 2 and all("there is none before it" in one for one in said)


def test_named_and_not_there(out: Path) -> None:
    """The text says what is, or what the folder is instead."""
    assert refusal(lambda: named("checkpoint-3", out)) == (
        "checkpoint-3 isn't there; did you mean checkpoint-2 or checkpoint-1?"
    )
    assert "there is checkpoint-2, checkpoint-1" in refusal(lambda: named("/nowhere/x", out))
    assert "no checkpoint of a trainer; name one of checkpoint-2, checkpoint-1, or latest" in (
        refusal(lambda: named(str(out), out))
    )
    assert "it has no trainer_state.json" in refusal(lambda: named(str(models.BASE), out))
    (out / "checkpoint-2" / "scheduler.pt").write_bytes(b"")
    text = refusal(lambda: named("checkpoint-2", out))
    assert "scheduler.pt isn't whole" in text and text.endswith("there is checkpoint-1")


OTHERS: list[tuple[Callable[[], Any], str]] = [
    (lambda: adapted(r=8), "its rank is 4, and not 8"),
    (lambda: adapted(lora_alpha=16), "its alpha is 8, and not 16"),
    (lambda: adapted(use_rslora=True), "its use_rslora is False, and not True"),
    (lambda: adapted(target_modules=["q_proj"]), "v_proj.lora_A.weight, and what is trained"),
    (lambda: adapted(target_modules=["q_proj", "v_proj", "o_proj"]), "it has no base_model"),
    (base, "it holds an adapter, and a whole model is trained"),
]


@pytest.mark.parametrize(("build", "said"), OTHERS)
def test_of_another_adapter(trained: dict[str, Path], build: Callable[[], Any], said: str) -> None:
    """Loaded all the same, it would be scaled otherwise, or in part."""
    folder = trained["adapter"] / "checkpoint-2"
    text = refusal(lambda: check_fits(folder, Trained.of(build()), 3))
    assert said in text and text.startswith(f"{folder} doesn't fit what is trained: ")


def test_of_another_base(trained: dict[str, Path], tmp_path: Path) -> None:
    """A model of the same shapes is another one, and so is one of other shapes."""
    twin = Path(shutil.copytree(models.BASE, tmp_path / "twin"))
    folder, whole = (trained[kind] / "checkpoint-2" for kind in ("adapter", "model"))
    text = refusal(lambda: check_fits(folder, Trained.of(adapted(twin)), 3))
    assert f"its base is {models.BASE}, and not {twin}" in text
    # A whole model brings all its weights along, so that it fits any of its shapes.
    assert check_fits(whole, Trained.of(base(twin)), 3) == 2
    model = Trained.of(base(twin))
    config = json.loads((twin / "config.json").read_text())
    (twin / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    said = "its num_hidden_layers is 2, and not 3"
    assert said in refusal(lambda: check_fits(whole, model, 3))


def test_of_another_kind(trained: dict[str, Path]) -> None:
    """An adapter is no model, whatever tensors either has."""
    folder = trained["model"] / "checkpoint-2"
    said = "it holds a whole model, and an adapter is trained"
    assert said in refusal(lambda: check_fits(folder, Trained.of(adapted()), 3))
    other = Trained(models.BASE, {"model.norm.weight": (5,)})
    said = "its model.norm.weight has shape (128,), and not (5,)"
    assert said in refusal(lambda: check_fits(folder, other, 3))
    other = Trained(models.BASE, {"model.other.weight": (5,)})
    assert "it has no model.other.weight" in refusal(lambda: check_fits(folder, other, 3))


def test_experts_under_other_names(tmp_path: Path) -> None:
    """What a trainer would go on from without them, and say so in its log alone."""
    path = models.resolve("toyworld://moe", tmp_path)
    trainer(base(path), tmp_path / "out", 1).train()
    folder = newest(tmp_path / "out", never)
    assert folder is not None
    said = "it has no model.layers.0.mlp.experts.down_proj, at least not under this name"
    assert said in refusal(lambda: check_fits(folder, Trained.of(base(path)), 2))


def test_of_another_step(out: Path, tmp_path: Path) -> None:
    """What aligning logs is in its state; a checkpoint without a log fits either."""
    folder = out / "checkpoint-1"
    check_method(folder, "sft")
    said = "was saved by sft, and this is dpo"
    assert said in refusal(lambda: check_method(folder, "dpo"))
    state = json.loads((folder / "trainer_state.json").read_text())
    state["log_history"][0]["rewards/chosen"] = 0.0
    (folder / "trainer_state.json").write_text(json.dumps(state))
    check_method(folder, "dpo")
    said = "was saved by dpo, and this is sft"
    assert said in refusal(lambda: check_method(folder, "sft"))
    for empty in ([], None, [5]):
        (folder / "trainer_state.json").write_text(json.dumps({**state, "log_history": empty}))
        check_method(folder, "sft")
        check_method(folder, "dpo")


def test_what_a_step_is_given(out: Path, tmp_path: Path) -> None:
    """A job that asks for nothing begins; one that asks gets a whole checkpoint that fits."""
    log = tmp_path / "events.jsonl"
    with EventLog(log) as events:
        job = StepJob("sft", tiny_configuration("unused.recipe"), events, out)
        assert chosen(job, adapted(), 3) is None
        assert chosen(replace(job, resume="latest"), adapted(), 3) == out / "checkpoint-2"
        (out / "checkpoint-2" / "rng_state.pth").unlink()
        assert chosen(replace(job, resume="latest"), adapted(), 3) == out / "checkpoint-1"
        for wrong in (replace(job, resume="nothing"), replace(job, name="dpo", resume="latest")):
            refusal(partial(chosen, wrong, adapted(), 3))
        refusal(lambda: chosen(replace(job, resume="latest"), adapted(r=2), 3))
    said = [one.text for one in read_events(log) if isinstance(one, StepWarning)]
    assert set(said) == {
        f"{out / 'checkpoint-2'} isn't whole: rng_state.pth isn't there; likely it was being saved "
        "when the run ended; going on from checkpoint-1"
    }


def test_more_steps_than_there_are_to_be(trained: dict[str, Path]) -> None:
    """A trainer would end at once and say nothing; with as many, what was trained is saved."""
    folder = trained["adapter"] / "checkpoint-2"
    assert check_fits(folder, Trained.of(adapted()), 2) == 2
    text = refusal(lambda: check_fits(folder, Trained.of(adapted()), 1))
    assert text == (
        f"{folder} is already at step 2, beyond max_steps 1; raise max_steps to train on"
    )
