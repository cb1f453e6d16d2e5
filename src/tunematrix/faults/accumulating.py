"""Faults in how micro-batches become one step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator
from transformers import Trainer

from tunematrix.faults.catalogue import Config, fault
from tunematrix.faults.patching import replaced

RELATED = ("accumulation[*-lora-unequal]", "same-accumulation[*-lora-none]")


@fault("accumulation", seen_by=RELATED)
def averaged_by_micro_batch(config: Config) -> Iterator[None]:
    """Average the micro-batches' own means, however many tokens each has.

    Stands for huggingface/transformers#34191 (and ml-explore/mlx-lm#1544).
    """
    with replaced(Trainer, "_get_num_items_in_batch", lambda _: lambda *_: None):
        yield


@fault("accumulation", seen_by=RELATED)
def summed_over_micro_batches(config: Config) -> Iterator[None]:
    """Add up the gradients of micro-batches that are means already; the logged loss is right.

    Stands for huggingface/trl#2615: clipping and Adam hide how long the gradients are.
    """

    def wrap(original: Any) -> Any:
        def backward(accelerator: Any, loss: Any, **kwargs: Any) -> None:
            original(accelerator, loss * int(config["train"]["accumulation"]), **kwargs)

        return backward

    with replaced(Accelerator, "backward", wrap):
        yield


@fault("accumulation", seen_by=RELATED)
def first_micro_batch_again(config: Config) -> Iterator[None]:
    """Fill each step with copies of its first micro-batch.

    Stands for loops that ask the data for a new iterator where they want its next batch.
    """

    def wrap(original: Any) -> Any:
        def collect(trainer: Any, batches: Any, number: int, device: Any) -> Any:
            found, _ = original(trainer, batches, number, device)
            same = [dict(found[0]) for _ in found]
            return same, trainer._get_num_items_in_batch(same, device)

        return collect

    with replaced(Trainer, "get_batch_samples", wrap):
        yield


@fault("accumulation", seen_by=RELATED)
def zeroed_between_micro_batches(config: Config) -> Iterator[None]:
    """Zero the gradients before each micro-batch, so that the last one alone has a say.

    Stands for loops that zero them where a step's passes begin, in the inner loop.
    """

    def wrap(original: Any) -> Any:
        def step(trainer: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
            model.zero_grad()
            return original(trainer, model, *args, **kwargs)

        return step

    with replaced(Trainer, "training_step", wrap):
        yield


@fault("accumulation", seen_by=RELATED)
def added_up_in_bfloat16(config: Config) -> Iterator[None]:
    """Round gradients to bfloat16 after each micro-batch; they stay float32 by name.

    Stands for buffers of half precision in which the small ones of many micro-batches are lost
    (deepspeedai/DeepSpeed#2768).
    """

    def wrap(original: Any) -> Any:
        def step(trainer: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
            loss = original(trainer, model, *args, **kwargs)
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.grad.copy_(parameter.grad.to(torch.bfloat16))
            return loss

        return step

    with replaced(Trainer, "training_step", wrap):
        yield


@fault("accumulation", seen_by=RELATED)
def cut_for_each_micro_batch(config: Config) -> Iterator[None]:
    """Clip what has been added up after each micro-batch, and not only what a step brings.

    Stands for loops in which clipping stands beside the backward pass.
    """

    def wrap(original: Any) -> Any:
        def step(trainer: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
            loss = original(trainer, model, *args, **kwargs)
            limit = float(config["train"]["max_grad_norm"]) or 1.0
            torch.nn.utils.clip_grad_norm_(model.parameters(), limit)
            return loss

        return step

    with replaced(Trainer, "training_step", wrap):
        yield
