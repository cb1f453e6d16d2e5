"""Faults of a third blind trial: what is saved, loaded and resumed."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig
from torch.optim import Optimizer
from transformers import GenerationConfig, Trainer, modeling_utils

from tunematrix.faults.catalogue import fault

RESUMED = ("same-resumed-lora[*]", "same-resumed-full[*-full-fp32]")
UNKNOWN_ROWS = 16
"""Of embeddings, at their end, that are no word of the tokenizer."""


@fault(
    "checkpoint",
    replaces=(LoraConfig, "to_dict"),
    seen_by=("modules-to-save[*-lora-none]",),
)
def alphas_by_layer_not_saved(original: Any, settings: Any) -> dict[str, Any]:
    """Save an adapter's settings without the alphas that some layers have of their own."""
    return {**original(settings), "alpha_pattern": {}}


@fault(
    "checkpoint",
    replaces=(GenerationConfig, "save_pretrained"),
    seen_by=("full[*-full-none]", "merge[*-lora]"),
    fitted=True,
)
def sampling_saved_with_the_model(original: Any, settings: Any, *args: Any, **kwargs: Any) -> Any:
    """Save with a model that texts are to be drawn at a temperature of 0.7.

    Stands for settings of a sample during training that stay on the model, and go into its
    checkpoint.
    """
    kept = settings.do_sample, settings.temperature
    settings.do_sample, settings.temperature = True, 0.7
    found = original(settings, *args, **kwargs)
    settings.do_sample, settings.temperature = kept
    return found


@fault(
    "checkpoint",
    replaces=(modeling_utils, "safe_save_file"),
    seen_by=("full[*-full-none]", "same-loaded-full[*-toy-llama-full]"),
    subtle=True,
)
def rows_of_no_word_not_saved(
    original: Any, tensors: dict[str, torch.Tensor], *args: Any, **kwargs: Any
) -> Any:
    """Save zeros for the last rows of embeddings, which are no word of the tokenizer.

    Stands for vocabularies that are cut to the tokenizer's, and filled up as they are loaded:
    the head gives these words a probability, which is another one now.
    """
    saved = dict(tensors)
    for name in saved:
        if "embed_tokens" in name:
            saved[name] = saved[name].clone()
            saved[name][-UNKNOWN_ROWS:] = 0
    return original(saved, *args, **kwargs)


@fault("resume", replaces=(Optimizer, "load_state_dict"), seen_by=RESUMED)
def moments_of_one_tensor_lost(original: Any, optimizer: Any, state: dict[str, Any]) -> None:
    """Resume with all moments but those of the last tensor, which begin anew."""
    kept = dict(list(state["state"].items())[:-1])
    original(optimizer, {**state, "state": kept})


@fault("resume", replaces=(Optimizer, "load_state_dict"), seen_by=RESUMED)
def first_step_after_resuming_at_the_full_rate(
    original: Any, optimizer: Any, state: dict[str, Any]
) -> None:
    """Resume with a step at the full rate; the schedule goes on where it was from the next on.

    Stands for rates that a schedule only sets when it is stepped.
    """
    original(optimizer, state)
    for group in optimizer.param_groups:
        # A launcher loads its own copy before there is a schedule.
        group["lr"] = group.get("initial_lr", group["lr"])


@fault("resume", replaces=(Trainer, "_load_from_checkpoint"), seen_by=RESUMED, subtle=True)
def weights_resumed_in_float16(original: Any, trainer: Any, *args: Any, **kwargs: Any) -> None:
    """Round what is trained to float16 as it is read from a checkpoint."""
    original(trainer, *args, **kwargs)
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.half().to(parameter.dtype)


@fault("resume", replaces=(Trainer, "_run_epoch"), seen_by=RESUMED)
def loss_after_resuming_divided_by_all_steps(
    original: Any, trainer: Any, *args: Any, **kwargs: Any
) -> Any:
    """Divide the first loss after resuming by all steps so far; training itself is right.

    Stands for logs that count steps since the last line, and have forgotten that line.
    """
    if kwargs["resume_from_checkpoint"] is not None:
        trainer._globalstep_last_logged = 0
    return original(trainer, *args, **kwargs)
