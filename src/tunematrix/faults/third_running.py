"""Faults of a third blind trial: memory, logs and the process."""

from __future__ import annotations

import gc
from typing import Any

import torch
from peft.tuners.lora.layer import LoraLayer
from transformers import Trainer

from tunematrix.faults.catalogue import fault

TRAINED = ("full[*-full-none]", "lora[*-lora-none]")


@fault("memory", replaces=(torch.Tensor, "backward"), seen_by=("memory[*]", "full[*-full-none]"))
def graph_kept_by_the_backward_pass(original: Any, loss: Any, *args: Any, **kwargs: Any) -> None:
    """Keep the whole graph until its backward pass has ended, and free nothing on the way.

    Stands for `retain_graph=True`, where a second backward pass was tried and its trace stayed.
    """
    original(loss, *args, **{**kwargs, "retain_graph": True})


@fault(
    "memory",
    replaces=(LoraLayer, "_cast_input_dtype"),
    seen_by=("memory[*]", "lora[*-lora-none]"),
)
def inputs_of_adapters_copied(original: Any, layer: Any, values: Any, dtype: torch.dtype) -> Any:
    """Copy what enters each adapter, though it has the right dtype already.

    Layers that read one tensor keep one copy each for the backward pass.
    """
    return original(layer, values, dtype).clone()


@fault(
    "logging",
    replaces=(Trainer, "get_eval_dataloader"),
    seen_by=("same-evaluation[*]", "best-loaded[*-lora]"),
)
def evaluated_on_rows_of_training(original: Any, trainer: Any, rows: Any = None) -> Any:
    """Evaluate as many of training's rows as there are held-out ones.

    Stands for a cache of prepared data that is found by a name which both sets have.
    """
    seen = trainer.train_dataset
    return original(trainer, seen.select(range(min(len(seen), len(trainer.eval_dataset)))))


@fault(
    "logging",
    replaces=(Trainer, "training_step"),
    seen_by=("accumulation[*-lora-unequal]", "accumulation[*-full-unequal]"),
)
def loss_of_the_last_micro_batch(original: Any, trainer: Any, *args: Any, **kwargs: Any) -> Any:
    """Log the last micro-batch's share of the loss as if all had been like it.

    Stands for allenai/allennlp#4706.
    """
    loss = original(trainer, *args, **kwargs)
    whole = trainer.args.gradient_accumulation_steps
    return loss * (whole if trainer.accelerator.sync_gradients else 0)


@fault("logging", replaces=(Trainer, "_get_grad_norm"), seen_by=TRAINED, subtle=True)
def norm_logged_in_bfloat16(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Log the gradient's norm in bfloat16; clipping is done by the exact one."""
    return torch.as_tensor(original(*args, **kwargs)).bfloat16().float()


@fault("process", replaces=(Trainer, "train"), seen_by=TRAINED)
def collector_left_off(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Switch Python's garbage collector off for training, and leave it off.

    Stands for trainers that collect by themselves at fixed steps, so that processes don't wait
    for each other.
    """
    gc.disable()
    return original(*args, **kwargs)
