"""Training steps that go on from a checkpoint: they come to what an uninterrupted run comes to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file
from tests.stack.conftest import Carry
from tests.stack.test_steps import TOY_DPO, TOY_SFT, run, trained

from tunematrix.errors import WrongSetting
from tunematrix.evidence.events import StepBegun, StepWarning

FAULTS = "tunematrix.faults.resuming"
TOGETHER: Mapping[str, Any] = {
    "max_steps": 4,
    "save_steps": 2,
    "batch_size": 2,
    "warmup_steps": 1,
    "lr_scheduler_type": "cosine",
    "lora": {"rank": 4, "dropout": 0.2},
}


def steps_of(name: str, folder: Path, **settings: Any) -> dict[str, Any]:
    """Describe a step that saves after two of its four steps."""
    step, section = {"sft": (TOY_SFT, "training"), "dpo": (TOY_DPO, "alignment")}[name]
    told = {**step[section], **TOGETHER, **settings, "output_dir": str(folder)}
    return {**step, "model": {"path": "toyworld://base"}, section: told}


def tear(folder: Path) -> None:
    """Leave of the last checkpoint what a process that was killed meanwhile would have left."""
    file = folder / "checkpoint-4" / "optimizer.pt"
    file.write_bytes(file.read_bytes()[:-100])
    (folder / "checkpoint-4" / "trainer_state.json").unlink()


@pytest.mark.each_time(1)
@pytest.mark.parametrize(
    ("name", "settings"),
    [("sft", {}), ("sft", {"method": "full"}), ("dpo", {}), ("dpo", {"adapter": "merge"})],
)
def test_a_resumed_run_comes_to_the_same(
    carry_here: Carry, tmp_path: Path, name: str, settings: Mapping[str, Any]
) -> None:
    """The last checkpoint is torn, so the one before it is taken: steps 3 and 4 are done again."""
    folder = tmp_path / "out"
    step = steps_of(name, folder, **settings)
    if name == "dpo":
        first = steps_of("sft", tmp_path / "sft")
        assert not run(carry_here, {"sft": first}).failed
        step["model"] = {"path": str(tmp_path / "sft")}
    straight = run(carry_here, {name: step})
    weights = "model.safetensors" if "method" in settings else "adapter_model.safetensors"
    wanted = load_file(folder / weights)
    tear(folder)
    (folder / weights).unlink()
    resumed = run(carry_here, {name: step, "resume": "latest"})
    assert not straight.failed and not resumed.failed
    (warning,) = resumed.evidence.all(StepWarning)
    assert "checkpoint-4 isn't whole" in warning.text
    before, after = trained(straight)[name], trained(resumed)[name]
    assert (before.resumed_at, after.resumed_at) == (0, 2)
    assert after.logged == before.logged[2:]
    assert after.after == before.after
    found = load_file(folder / weights)
    assert found.keys() == wanted.keys()
    assert all((found[key] == wanted[key]).all() for key in found)


@pytest.mark.each_time(2)
@pytest.mark.parametrize(
    "fault",
    [
        "moments_not_restored",
        "steps_of_adam_forgotten",
        "random_state_not_restored",
        "schedule_begins_anew",
        "rows_from_the_beginning",
    ],
)
def test_a_resumed_run_that_forgets_comes_to_another(
    carry_here: Carry, tmp_path: Path, fault: str
) -> None:
    """What the runs above are compared by would tell."""
    folder = tmp_path / "out"
    step = steps_of("sft", folder)
    straight = trained(run(carry_here, {"sft": step}))["sft"]
    tear(folder)
    resumed = trained(
        run(carry_here, {"sft": step, "resume": "latest"}, fault=f"{FAULTS}:{fault}")
    )["sft"]
    assert resumed.resumed_at == 2
    assert (resumed.logged, resumed.after) != (straight.logged[2:], straight.after)


@pytest.mark.parametrize("settings", [{}, {"method": "full"}])
def test_killed_after_the_last_checkpoint(
    carry_here: Carry, tmp_path: Path, settings: Mapping[str, Any]
) -> None:
    """No step is left, what was trained is saved, and judged by the loss that it came to."""
    folder = tmp_path / "out"
    step = {**steps_of("sft", folder, **settings), "expect": {"loss_max": 20.0}}
    straight = run(carry_here, {"sft": step})
    weights = folder / ("model.safetensors" if settings else "adapter_model.safetensors")
    wanted = weights.read_bytes()
    weights.unlink()
    resumed = run(carry_here, {"sft": step, "resume": "latest"})
    assert not resumed.failed and "step_loss" in resumed.verdicts
    assert weights.read_bytes() == wanted
    before, after = trained(straight)["sft"], trained(resumed)["sft"]
    assert (after.resumed_at, after.logged, after.after) == (4, before.logged, before.after)


def test_a_training_that_goes_on_for_longer(carry_here: Carry, tmp_path: Path) -> None:
    """Its first step has the longer schedule's rate, where Trainer leaves it at 0."""
    short = steps_of("sft", tmp_path / "out", max_steps=3, warmup_steps=0)
    longer = steps_of("sft", tmp_path / "out", max_steps=4, warmup_steps=0)
    assert not run(carry_here, {"sft": short}).failed
    weights = tmp_path / "out" / "adapter_model.safetensors"
    before = weights.read_bytes()
    resumed = run(carry_here, {"sft": longer, "resume": "latest"})
    assert not resumed.failed and weights.read_bytes() != before
    found = trained(resumed)["sft"]
    assert (found.resumed_at, found.moved) == (3, found.tensors)
    (begun,) = resumed.evidence.all(StepBegun)
    assert begun.does.endswith("4 steps, from checkpoint-3 on")


def test_a_folder_with_checkpoints_of_another_training(carry_here: Carry, tmp_path: Path) -> None:
    """Going on from the latest one would take up that one, if this training is interrupted."""
    step = steps_of("sft", tmp_path / "out")
    assert not run(carry_here, {"sft": step}).evidence.all(StepWarning)
    (warning,) = run(carry_here, {"sft": step}).evidence.all(StepWarning)
    assert "of an earlier training, up to checkpoint-4" in warning.text


def test_a_checkpoint_that_lacks_a_tensor(carry_here: Carry, tmp_path: Path) -> None:
    """A trainer would go on from it, with that tensor as it is in a new adapter."""
    step = steps_of("sft", tmp_path / "out")
    run(carry_here, {"sft": step}, fault=f"{FAULTS}:adapter_tensor_not_saved")
    with pytest.raises(
        WrongSetting, match=r"doesn't fit what is trained: it has no base_model\..*lora_B"
    ):
        run(carry_here, {"sft": step, "resume": "checkpoint-2"})


def test_a_resumed_run_that_is_refused(carry_here: Carry, tmp_path: Path) -> None:
    """Of a longer run, of another rank, of another step, and where there is none at all."""
    folder = tmp_path / "out"
    assert not run(carry_here, {"sft": steps_of("sft", folder)}).failed
    again, shorter = steps_of("sft", folder), steps_of("sft", folder, max_steps=3)
    for step, resume, said in (
        ({"sft": shorter}, "latest", "is already at step 4, beyond max_steps 3"),
        ({"sft": again}, "checkpoint-3", "did you mean checkpoint-4 or checkpoint-2?"),
        (
            {"sft": steps_of("sft", folder, lora={"rank": 2})},
            "checkpoint-2",
            "its rank is 4, and not 2",
        ),
        ({"sft": steps_of("sft", tmp_path / "new")}, "latest", "there is nothing to go on from"),
        (
            {"dpo": steps_of("dpo", tmp_path / "new")},
            str(folder / "checkpoint-2"),
            "was saved by sft, and this is dpo",
        ),
    ):
        with pytest.raises(WrongSetting, match=re.escape(said)):
            run(carry_here, {**step, "resume": resume})
