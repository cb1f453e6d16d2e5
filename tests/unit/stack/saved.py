"""Checkpoints for tests: saved by a real trainer, and what is said of those that can't be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from tunematrix.errors import WrongSetting
from tunematrix.stack.toyworld import models

ROWS = Dataset.from_list([{"input_ids": [5, 6, 7, 8], "labels": [5, 6, 7, 8]}] * 4)


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
