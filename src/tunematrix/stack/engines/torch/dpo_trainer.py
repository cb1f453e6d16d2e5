"""Training through TRL's DPOTrainer, which holds what it trains against what it began with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from torch import nn
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl import DPOConfig, DPOTrainer

from tunematrix.evidence.events import LoggedPreference
from tunematrix.stack import releases
from tunematrix.stack.engines.torch import interruption
from tunematrix.stack.engines.torch.sft_trainer import TrainerLogReader, arguments
from tunematrix.stack.engines.torch.training import TorchTraining, WriteLine

REFERENCE = "ref"
"""The adapter that DPOTrainer adds to a PEFT model: a copy of the one that is trained."""
ONLY = {
    "eval_steps": 0,
    "load_best": False,
    "compile": "none",
    "padding": "pad",
    "too_long": "refuse",
    "streaming": False,
    "label_smoothing": 0.0,
}
"""Settings that can't be had otherwise here."""


class PreferenceReader(TrainerCallback):
    """Passes on what DPOTrainer logs of log-probabilities."""

    def __init__(self, write: WriteLine) -> None:
        self.write = write

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Pass a step's line on; the summary has no log-probabilities."""
        if logs and "loss" in logs:
            names = ("logps/chosen", "logps/rejected", "rewards/chosen", "rewards/rejected")
            self.write(LoggedPreference(state.global_step, *(float(logs[name]) for name in names)))


def prepare(model: nn.Module, training: TorchTraining, write: WriteLine) -> Callable[[], object]:
    """Return what trains `model` in place; the data is tokenized by then.

    Raises:
        ValueError: a setting is asked for that this trainer would ignore.
    """
    _refuse(model, training)
    make = partial(_trainer, model, training, write)
    step = interruption.step_of(training.settings)
    train: Callable[[], object]
    if step:
        renew = partial(_renew, model)
        train = interruption.prepare(model, make, step, training.idle, renew)
    else:
        train = make().train

    def run() -> None:
        train()
        forget_reference(model)

    return run


def _trainer(model: nn.Module, training: TorchTraining, write: WriteLine) -> DPOTrainer:
    wanted = {**arguments(training), "beta": training.dpo.beta}
    trainer = DPOTrainer(
        model=model,
        args=DPOConfig(**releases.settings_of(DPOConfig, wanted)),
        train_dataset=Dataset.from_list([dict(row) for row in training.rows]),
        callbacks=[TrainerLogReader(write), PreferenceReader(write)],
        **releases.arguments_of(DPOTrainer, training.tokenizer, training.optimizer_class()),
    )
    releases.take_optimizer(trainer, training.optimizer_class())
    releases.tell_completions(trainer, model)
    trainer.remove_callback(PrinterCallback)
    return trainer


def forget_reference(model: nn.Module) -> None:
    """See that what is saved is the adapter that was trained, and no other beside it."""
    if isinstance(model, PeftModel) and REFERENCE in model.peft_config:
        model.delete_adapter(REFERENCE)


def _renew(model: nn.Module) -> None:
    """Make the adapter do nothing, as a new one: DPOTrainer takes its reference from it."""
    forget_reference(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.zero_()


def _refuse(model: nn.Module, training: TorchTraining) -> None:
    for name, value in ONLY.items():
        if getattr(training.settings, name) != value:
            message = f"train.{name}={getattr(training.settings, name)} is not for DPO; set {value}"
            raise ValueError(message)
    if any(isinstance(layer, nn.Dropout) and layer.p > 0 for layer in model.modules()):
        message = "DPOTrainer turns dropout off, so that policy and reference compare; set 0"
        raise ValueError(message)
