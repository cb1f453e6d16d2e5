"""DPO on the real trainer, honest and sabotaged: each fault fails the checks that it is for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from accelerate import Accelerator
from hydra.utils import instantiate
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoTokenizer
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from tunematrix.configuration import Configuration
from tunematrix.evidence.events import MicroBatch, Preference, PreferenceLoss
from tunematrix.evidence.log import EventLog
from tunematrix.faults.patching import replaced
from tunematrix.matrix.cells import expand
from tunematrix.matrix.compose import compose
from tunematrix.matrix.groups import read_groups
from tunematrix.paths import shipped_configs
from tunematrix.spec.model import Spec
from tunematrix.stack.engines.mlx import MlxEngine
from tunematrix.stack.recipes import dpo
from tunematrix.stack.toyworld import models, preferences

if TYPE_CHECKING:
    from tests.stack.conftest import RunCell

CELL = "dpo[cpu-none-prompt-completion]"
ACCUMULATED = "dpo-accumulation[cpu-lora-prompt-completion]"
FULL = "dpo-full[cpu-full-prompt-completion]"
Plant = Callable[[], AbstractContextManager[None]]


def _beta_doubled() -> AbstractContextManager[None]:
    def wrap(original: Any) -> Any:
        def init(config: Any, *args: Any, **settings: Any) -> None:
            original(config, *args, **{**settings, "beta": 2 * settings["beta"]})

        return init

    return replaced(DPOConfig, "__init__", wrap)


def _copy_to_reference(model: PeftModel, share: float) -> None:
    """Move the reference adapter a share of the way to the one that is trained."""
    weights = dict(model.named_parameters())
    for name, weight in weights.items():
        if ".default." in name:
            reference = weights[name.replace(".default.", ".ref.")]
            reference.data.lerp_(weight.data, share)


def _reference_moves() -> AbstractContextManager[None]:
    """Let the reference follow the policy, a hundredth of the way at each step."""

    def wrap(original: Any) -> Any:
        def step(trainer: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
            _copy_to_reference(model, 0.01)
            return original(trainer, model, *args, **kwargs)

        return step

    return replaced(DPOTrainer, "training_step", wrap)


def _reference_taken_late() -> AbstractContextManager[None]:
    """Take the policy as it is at the third step for the reference of the rest."""

    def wrap(original: Any) -> Any:
        def step(trainer: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
            if trainer.state.global_step == 2:
                _copy_to_reference(model, 1.0)
            return original(trainer, model, *args, **kwargs)

        return step

    return replaced(DPOTrainer, "training_step", wrap)


def _reference_off_from_the_start() -> AbstractContextManager[None]:
    def wrap(original: Any) -> Any:
        def init(trainer: Any, *args: Any, **kwargs: Any) -> None:
            original(trainer, *args, **kwargs)
            for name, weight in trainer.model.named_parameters():
                if "lora_B.ref." in name:
                    weight.data.fill_(1e-2)

        return init

    return replaced(DPOTrainer, "__init__", wrap)


def _collated(change: Callable[[dict[str, torch.Tensor]], None]) -> AbstractContextManager[None]:
    def wrap(original: Any) -> Any:
        def collate(collator: Any, examples: Any) -> Any:
            batch = original(collator, examples)
            change(batch)
            return batch

        return collate

    return replaced(DataCollatorForPreference, "torch_call", wrap)


def _sides_swapped(batch: dict[str, torch.Tensor]) -> None:
    for name, tensor in batch.items():
        batch[name] = torch.cat(tensor.chunk(2)[::-1])


def _prompt_counted(batch: dict[str, torch.Tensor]) -> None:
    batch["completion_mask"] = batch["attention_mask"].clone()


def _end_left_out(batch: dict[str, torch.Tensor]) -> None:
    ends = batch["attention_mask"].sum(dim=1) - 1
    batch["completion_mask"][torch.arange(len(ends)), ends] = 0


def _wrong_pairs(batch: dict[str, torch.Tensor]) -> None:
    """Hold each chosen story against another's other one."""
    half = len(batch["input_ids"]) // 2
    for name, tensor in batch.items():
        batch[name] = torch.cat([tensor[:half], tensor[half:].roll(1, dims=0)])


def _rows_swapped() -> AbstractContextManager[None]:
    """Swap what is trained on, and what it's audited by: only the outcome can tell."""

    def wrap(original: Any) -> Any:
        def pairs(form: Any, dialect: Any, count: int, seed: int, split: Any = "train") -> Any:
            found = original(form, dialect, count, seed, split)
            if split == "held-out":
                return found
            return [{**p, "chosen": p["rejected"], "rejected": p["chosen"]} for p in found]

        return pairs

    return replaced(preferences, "pairs", wrap)


def _gradient_scaled(factor: float) -> AbstractContextManager[None]:
    """Scale what goes backward and not what is logged, as accumulation once did (trl#2615)."""

    def wrap(original: Any) -> Any:
        return lambda accelerator, loss, **settings: original(
            accelerator, factor * loss, **settings
        )

    return replaced(Accelerator, "backward", wrap)


def _loss_halved() -> AbstractContextManager[None]:
    def wrap(original: Any) -> Any:
        return lambda *args: original(*args) / 2

    return replaced(DPOTrainer, "_compute_loss", wrap)


PLANTED: dict[str, tuple[str, Plant, set[str]]] = {
    "beta doubled": (CELL, _beta_doubled, {"dpo_loss", "dpo_gradient", "dpo_reference"}),
    "reference moves": (CELL, _reference_moves, {"dpo_loss", "dpo_reference"}),
    "reference taken late": (CELL, _reference_taken_late, {"dpo_loss", "dpo_reference"}),
    "reference off": (
        CELL,
        _reference_off_from_the_start,
        {"dpo_first_loss", "dpo_loss", "dpo_reference"},
    ),
    "sides swapped": (CELL, lambda: _collated(_sides_swapped), {"labels", "preference"}),
    "rows swapped": (CELL, _rows_swapped, {"preference"}),
    "wrong pairs": (CELL, lambda: _collated(_wrong_pairs), {"labels"}),
    "prompt counted": (CELL, lambda: _collated(_prompt_counted), {"labels"}),
    "end left out": (CELL, lambda: _collated(_end_left_out), {"labels"}),
    "gradient x 4": (ACCUMULATED, lambda: _gradient_scaled(4.0), {"dpo_gradient"}),
    "gradient x 1.01": (ACCUMULATED, lambda: _gradient_scaled(1.01), {"dpo_gradient"}),
    "loss halved": (CELL, _loss_halved, {"dpo_first_loss", "dpo_loss", "dpo_gradient"}),
}


@pytest.mark.each_time(2)
@pytest.mark.parametrize("cell", [CELL, "dpo[cpu-bnb-nf4-prompt-completion]", ACCUMULATED, FULL])
def test_honest_training_passes(run_here: RunCell, cell: str) -> None:
    """One adapter, one over 4 bits, micro-batches, and every parameter with checkpointing."""
    judged = run_here(cell)
    assert judged.failed == set()
    before, after = judged.evidence.all(Preference)
    assert before.rate == pytest.approx(0.5, abs=0.04)
    assert before.pairs == after.pairs == 64
    assert [loss.step for loss in judged.evidence.all(PreferenceLoss)] == [0, 1, 2, 3]
    assert {batch.rows for batch in judged.evidence.all(MicroBatch)} <= {4, 16}


@pytest.mark.each_time(3)
@pytest.mark.parametrize("fault", PLANTED)
def test_fault_is_named(run_here: RunCell, fault: str) -> None:
    """It trains to the end, and just the checks fail that it acts on."""
    cell, plant, checks = PLANTED[fault]
    with plant():
        assert run_here(cell).failed == checks


def test_saved_is_the_adapter_alone(run_here: RunCell, tmp_path: Path) -> None:
    """The reference, a second adapter while training, isn't among what was trained."""
    run_here(CELL)
    (saved,) = tmp_path.rglob("adapter_model.safetensors")
    with safe_open(saved, "pt") as tensors:
        assert len(list(tensors.keys())) == 28


REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "dropout": ({"method.implementation.dropout": 0.1}, "turns dropout off"),
    "evaluations": ({"train.eval_steps": 2}, "train.eval_steps=2 is not for DPO"),
    "evaluation": ({"train.eval_steps": 2}, "train.eval_steps=2 is not for DPO"),
    "padding": ({"train.padding": "eos"}, "train.padding=eos is not for DPO"),
}


@pytest.mark.parametrize("setting", REFUSED)
def test_setting_without_an_effect_is_refused(setting: str, tmp_path: Path) -> None:
    """Rather than ignored."""
    settings, words = REFUSED[setting]
    config = _config("cpu", {"train.max_steps": 2, **settings}, tmp_path)
    with EventLog(tmp_path / "events.jsonl") as events, pytest.raises(ValueError, match=words):
        instantiate(config.recipe.implementation)(config, events, tmp_path)


def test_other_data_is_refused(tmp_path: Path) -> None:
    """Plain stories have no completions to choose from."""
    config = _config("cpu", {}, tmp_path)
    text = config.data.model_copy(update={"form": "text"})
    plain = config.model_copy(update={"data": text})
    with pytest.raises(ValueError, match="set data=prompt-completion"):
        dpo.prepare(plain, AutoTokenizer.from_pretrained(models.BASE))


def test_mlx_refuses(tmp_path: Path) -> None:
    """mlx-lm has no trainer of preferences, and doesn't train something else instead."""
    config = _config("cpu", {}, tmp_path)
    sft = _config("mlx", {}, tmp_path, recipe="sft")
    engine = MlxEngine(sft.model_copy(update={"recipe": config.recipe}))
    data = dpo.prepare(config, engine.tokenizer)
    with (
        EventLog(tmp_path / "events.jsonl") as events,
        pytest.raises(ValueError, match="no trainer of preferences"),
    ):
        engine.train(engine.original(), engine.describe(engine.original()), data, events, tmp_path)


def test_rows_can_be_few(tmp_path: Path) -> None:
    """As many as asked for; else enough for every step."""
    tokenizer = AutoTokenizer.from_pretrained(models.BASE)
    assert len(dpo.prepare(_config("cpu", {"train.rows": 5}, tmp_path), tokenizer).rows) == 5
    data = dpo.prepare(_config("cpu", {"train.max_steps": 4}, tmp_path), tokenizer)
    assert len(data.rows) == 40
    assert len(data.examples) == 80
    # Both stories of a pair together are as likely as the grammar says.
    assert 0.2 < data.floor < 0.6


def _config(
    backend: str, settings: dict[str, object], cache: Path, recipe: str = "dpo"
) -> Configuration:
    groups = read_groups([shipped_configs()])
    matrix = {"data": ["prompt-completion"]}
    bounds = {"test_id": "a", "recipe": recipe, "matrix": matrix, "overrides": settings}
    (cell,), _ = expand(Spec.model_validate(bounds), groups, [backend])
    return compose(cell, groups, str(cache / "cache"))
