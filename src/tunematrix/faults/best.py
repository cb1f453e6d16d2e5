"""Faults in training that is to end with its best checkpoint."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Trainer, TrainingArguments

from tunematrix.faults.catalogue import fault

LORA, FULL = "best-loaded[*-lora]", "best-loaded[*-full]"


@fault("checkpoint", replaces=(Trainer, "_load_best_model"), seen_by=(LORA, FULL), fitted=True)
def best_not_loaded(original: Any, trainer: Any) -> None:
    """End with the last weights, though the best were asked for.

    Stands for a checkpoint that isn't found where it was saved, which is but a warning.
    """


@fault(
    "checkpoint", replaces=(TrainingArguments, "__post_init__"), seen_by=(LORA, FULL), fitted=True
)
def worst_taken_for_the_best(original: Any, arguments: Any) -> None:
    """Take the largest loss for the best, as is right for an accuracy.

    Stands for a measure whose direction is guessed by its name.
    """
    original(arguments)
    arguments.greater_is_better = True


@fault(
    "checkpoint",
    replaces=(Trainer, "_load_best_model"),
    seen_by=(LORA,),
    fitted=True,
)
def best_loaded_in_part(original: Any, trainer: Any) -> None:
    """Load the best checkpoint's first factors, and leave the second ones as they ended.

    Stands for tensors that a loader passes over, since their names have changed.
    """
    named = dict(trainer.model.named_parameters())
    kept = {name: one.detach().clone() for name, one in named.items() if "lora_B" in name}
    original(trainer)
    with torch.no_grad():
        for name, parameter in trainer.model.named_parameters():
            if name in kept:
                parameter.copy_(kept[name])
