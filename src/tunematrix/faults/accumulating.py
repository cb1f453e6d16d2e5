"""Faults in how micro-batches become one step."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from transformers import Trainer

from tunematrix.configuration import Configuration
from tunematrix.faults.catalogue import fault

RELATED = ("accumulation[*-lora-unequal]", "same-accumulation[*-lora-none]")


@fault("accumulation", replaces=(Trainer, "_get_num_items_in_batch"), seen_by=RELATED)
def averaged_by_micro_batch(_original: Any, *_: Any) -> Any:
    """Average the micro-batches' own means, however many tokens each has.

    Stands for huggingface/transformers#34191 (and ml-explore/mlx-lm#1544).
    """
    return None


@fault("accumulation", replaces=(Accelerator, "backward"), seen_by=RELATED)
def summed_over_micro_batches(
    original: Any, accelerator: Any, loss: Any, *, config: Configuration, **kwargs: Any
) -> None:
    """Add up the gradients of micro-batches that are means already; the logged loss is right.

    Stands for huggingface/trl#2615: clipping and Adam hide how long the gradients are.
    """
    original(accelerator, loss * config.train.accumulation, **kwargs)


@fault("accumulation", replaces=(Trainer, "get_batch_samples"), seen_by=RELATED)
def first_micro_batch_again(
    original: Any, trainer: Any, batches: Any, number: int, device: Any
) -> Any:
    """Fill each step with copies of its first micro-batch.

    Stands for loops that ask the data for a new iterator where they want its next batch.
    """
    found, _ = original(trainer, batches, number, device)
    same = [dict(found[0]) for _ in found]
    return same, trainer._get_num_items_in_batch(same, device)


@fault("accumulation", replaces=(Trainer, "training_step"), seen_by=RELATED)
def zeroed_between_micro_batches(
    original: Any, trainer: Any, model: Any, *args: Any, **kwargs: Any
) -> Any:
    """Zero the gradients before each micro-batch, so that the last one alone has a say.

    Stands for loops that zero them where a step's passes begin, in the inner loop.
    """
    model.zero_grad()
    return original(trainer, model, *args, **kwargs)


@fault("accumulation", replaces=(Trainer, "training_step"), seen_by=RELATED, subtle=True)
def added_up_in_bfloat16(original: Any, trainer: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
    """Round gradients to bfloat16 after each micro-batch; they stay float32 by name.

    Stands for buffers of half precision in which the small ones of many micro-batches are lost
    (deepspeedai/DeepSpeed#2768).
    """
    loss = original(trainer, model, *args, **kwargs)
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.copy_(parameter.grad.to(torch.bfloat16))
    return loss


@fault("accumulation", replaces=(Trainer, "training_step"), seen_by=RELATED)
def cut_for_each_micro_batch(
    original: Any, trainer: Any, model: Any, *args: Any, config: Configuration, **kwargs: Any
) -> Any:
    """Clip what has been added up after each micro-batch, and not only what a step brings.

    Stands for loops in which clipping stands beside the backward pass.
    """
    loss = original(trainer, model, *args, **kwargs)
    limit = config.train.max_grad_norm or 1.0
    torch.nn.utils.clip_grad_norm_(model.parameters(), limit)
    return loss
