"""Checkpoints that training goes on from: torn ones, other ones, and those that aren't there."""

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
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from tests.tiny import tiny_configuration
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from tunematrix.errors import WrongSetting
from tunematrix.evidence.events import StepWarning
from tunematrix.evidence.log import EventLog, read_events
from tunematrix.stack.steps.checkpoint_files import fault, shapes_of
from tunematrix.stack.steps.checkpoints import (
    Trained,
    check_fits,
    check_method,
    chosen,
    find,
    named,
    newest,
)
from tunematrix.stack.steps.job import Job
from tunematrix.stack.toyworld import models

ROWS = Dataset.from_list([{"input_ids": [5, 6, 7, 8], "labels": [5, 6, 7, 8]}] * 4)
ADAPTED = ("trainer_state.json", "adapter_model.safetensors", "adapter_config.json")
WHOLE = ("model.safetensors", "config.json")
BOTH = ("optimizer.pt", "scheduler.pt", "rng_state.pth")


def base(path: Path = models.BASE) -> Any:
    """Load the toy world's base model, or another."""
    return AutoModelForCausalLM.from_pretrained(path)


def adapted(path: Path = models.BASE, **settings: Any) -> PeftModel:
    """Put a new adapter on it."""
    told = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], **settings}
    return get_peft_model(base(path), LoraConfig(task_type="CAUSAL_LM", **told))


def trainer(model: Any, folder: Path, steps: int = 2) -> Trainer:
    """Return a trainer that saves after each step."""
    args = TrainingArguments(
        str(folder), max_steps=steps, save_steps=1, per_device_train_batch_size=2,
        report_to=[], use_cpu=True, disable_tqdm=True, logging_steps=1,
    )  # fmt: skip
    return Trainer(model, args, train_dataset=ROWS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Train an adapter and a whole model for two steps, once."""
    folders = {}
    for kind, model in (("adapter", adapted()), ("model", base())):
        folders[kind] = tmp_path_factory.mktemp(kind)
        trainer(model, folders[kind]).train()
    return folders


@pytest.fixture
def out(trained: dict[str, Path], tmp_path: Path) -> Path:
    """Return a copy of what was saved of the adapter, to be damaged."""
    return Path(shutil.copytree(trained["adapter"], tmp_path / "out"))


def refusal(act: Callable[[], object]) -> str:
    """Return what is said of a checkpoint that can't be used."""
    with pytest.raises(WrongSetting) as caught:
        act()
    assert caught.value.route == ("resume",)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def never(text: str) -> None:
    """Take a warning that nobody should have given."""
    pytest.fail(text)


# Whole ones.


def test_the_newest_is_taken(out: Path) -> None:
    """By its number, and not by its name or its age; what is called otherwise is no checkpoint."""
    assert newest(out, never) == out / "checkpoint-2"
    (out / "checkpoint-2").rename(out / "checkpoint-10")
    state = out / "checkpoint-10" / "trainer_state.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "global_step": 10}))
    shutil.copytree(out / "checkpoint-1", out / "checkpoint-best")
    shutil.copytree(out / "checkpoint-1", out / "tmp-checkpoint-99")
    (out / "checkpoint-11").write_text("a file")
    os.utime(out / "checkpoint-1")
    assert newest(out, never) == find("latest", out, never) == out / "checkpoint-10"
    shutil.rmtree(out / "checkpoint-10")
    assert newest(out, never) == out / "checkpoint-1"


@pytest.mark.parametrize("kind", ["adapter", "model"])
def test_what_was_saved_is_whole_and_fits(trained: dict[str, Path], kind: str) -> None:
    """The model that is trained on need not be the one that was saved, but one like it."""
    folder = trained[kind] / "checkpoint-2"
    assert fault(folder) == ""
    model = adapted() if kind == "adapter" else base()
    assert check_fits(folder, Trained.of(model), 3) == 2
    assert trainer(model, trained[kind], 3).train(resume_from_checkpoint=str(folder))
    shutil.rmtree(trained[kind] / "checkpoint-3")


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
    assert "of another training" in refusal(lambda: check_fits(folder, Trained.of(adapted()), 2))


def test_a_base_that_was_moved(out: Path) -> None:
    """Where its folder isn't there any more, the tensors alone tell."""
    file = out / "checkpoint-1" / "adapter_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "base_model_name_or_path": str(out / "gone")}))
    assert check_fits(out / "checkpoint-1", Trained.of(adapted()), 2) == 1


def test_shards(trained: dict[str, Path], tmp_path: Path) -> None:
    """A model in several files is whole when all of them are."""
    folder = tmp_path / "checkpoint-2"
    shutil.copytree(trained["model"] / "checkpoint-2", folder)
    whole = shapes_of(folder)
    (folder / "model.safetensors").unlink()
    base().save_pretrained(folder, max_shard_size="500KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 2 and fault(folder) == "" and shapes_of(folder) == whole
    assert check_fits(folder, Trained.of(base()), 3) == 2
    index = folder / "model.safetensors.index.json"
    content = index.read_text()
    index.write_text(content[:200])
    assert fault(folder) == f"{index.name} isn't whole, or no JSON"
    index.write_text('{"weight_map": {"a": 5}}')
    assert fault(folder) == f"{index.name} doesn't say where the tensors are"
    index.write_text(content.replace("model.norm.weight", "model.norm.other"))
    assert fault(folder).endswith("lacks model.norm.other")
    index.write_text(content)
    shards[1].write_bytes(shards[1].read_bytes()[:-1])
    assert fault(folder).startswith(f"{shards[1].name} isn't whole")
    shards[1].unlink()
    assert fault(folder) == f"{shards[1].name} isn't there"


# Torn ones.


@pytest.mark.parametrize(
    ("kind", "name"),
    [("adapter", name) for name in (*ADAPTED, *BOTH)] + [("model", name) for name in WHOLE],
)
def test_cut_anywhere(trained: dict[str, Path], tmp_path: Path, kind: str, name: str) -> None:
    """Whatever a killed process left of a file, it is told, and the checkpoint before is taken."""
    out = Path(shutil.copytree(trained[kind], tmp_path / "out"))
    file = out / "checkpoint-2" / name
    content = file.read_bytes()
    size = len(content.rstrip())  # without its last line end, JSON is whole
    cuts = {*range(0, size, max(1, size // 24)), 1, 7, 8, 9, 100, size - 2, size - 1}
    assert len(cuts) >= 20
    for length in sorted(cut for cut in cuts if cut < size):
        file.write_bytes(content[:length])
        said: list[str] = []
        assert newest(out, said.append) == out / "checkpoint-1", length
        assert len(said) == 1 and f"checkpoint-2 isn't whole: {name} " in said[0]
        assert said[0].endswith("going on from checkpoint-1")
    file.write_bytes(content)
    assert newest(out, never) == out / "checkpoint-2"
    file.unlink()
    assert newest(out, lambda text: None) == out / "checkpoint-1"
    assert f": {name} isn't there;" in refusal(lambda: named("checkpoint-2", out))


@pytest.mark.parametrize("name", BOTH)
def test_bytes_that_changed(out: Path, name: str) -> None:
    """The optimizer's files have checksums: a changed byte of a tensor or an empty end is told."""
    file = out / "checkpoint-2" / name
    content = file.read_bytes()
    at = content.index(b"data.pkl") + 80
    for changed in (
        content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :],
        content[: len(content) // 2] + b"\0" * (len(content) - len(content) // 2),
        b"\0" * len(content),
        b"",
        b"not a zip",
    ):
        file.write_bytes(changed)
        assert fault(out / "checkpoint-2").startswith(f"{name} is")


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("{}", "trainer_state.json names no step"),
        ('{"global_step": 0}', "trainer_state.json names no step"),
        ('{"global_step": true}', "trainer_state.json names no step"),
        ('{"global_step": "2"}', "trainer_state.json names no step"),
        ('{"global_step": 5}', "trainer_state.json is that of step 5"),
        ("[2]", "trainer_state.json isn't whole, or no JSON"),
        ("[" * 100_000, "trainer_state.json isn't whole, or no JSON"),
        ("\xff", "trainer_state.json isn't whole, or no JSON"),
    ],
)
def test_a_state_that_says_something_else(out: Path, state: str, said: str) -> None:
    """It is JSON, or was, and not what a trainer writes at that step."""
    (out / "checkpoint-2" / "trainer_state.json").write_text(state, "latin-1")
    assert fault(out / "checkpoint-2") == said


def test_weights_in_pickle_form(out: Path) -> None:
    """They aren't loaded, and so the checkpoint counts as torn."""
    folder = out / "checkpoint-2"
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    assert fault(folder) == (
        "adapter_model.safetensors isn't there; weights in pickle form aren't read"
    )


def test_an_optimizer_that_would_run_code(out: Path) -> None:
    """What is unpickled runs; here nothing is."""

    class Trap:
        def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
            return os.mkdir, (str(out / "sprung"),)

    torch.save(Trap(), out / "checkpoint-2" / "optimizer.pt")
    assert newest(out, never) == out / "checkpoint-2"
    assert not (out / "sprung").exists()
    (out / "sprung").mkdir()
    with pytest.raises(FileExistsError):
        torch.load(out / "checkpoint-2" / "optimizer.pt", weights_only=False)


# None, or another.


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
    assert said in text and text.startswith(f"{folder} is of another training: ")


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


def test_an_adapter_beside_the_trained_one(trained: dict[str, Path], tmp_path: Path) -> None:
    """As aligning keeps what it began with; it has to be whole too."""
    model = adapted()
    model.add_adapter("ref", model.peft_config["default"])
    folder = Path(shutil.copytree(trained["adapter"] / "checkpoint-2", tmp_path / "checkpoint-2"))
    model.save_pretrained(folder)
    assert fault(folder) == "" and check_fits(folder, Trained.of(model), 3) == 2
    beside = folder / "ref" / "adapter_model.safetensors"
    beside.write_bytes(beside.read_bytes()[:-1])
    assert fault(folder).startswith("ref/adapter_model.safetensors isn't whole")


def test_what_a_step_is_given(out: Path, tmp_path: Path) -> None:
    """A job that asks for nothing begins; one that asks gets a whole checkpoint that fits."""
    log = tmp_path / "events.jsonl"
    with EventLog(log) as events:
        job = Job("sft", tiny_configuration("unused.recipe"), events, out)
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
