"""Faults in the optimizer, and in what it is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from accelerate.optimizer import AcceleratedOptimizer
from torch.optim import adam
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import Trainer
from trl import SFTConfig

from tunematrix.configuration import Configuration
from tunematrix.faults.catalogue import fault

OTHER_BETA = 0.99
SETTLED = 10_000
"""A step whose correction of Adam's moments is next to nothing."""
SKIPPED = 8
FORGOTTEN = 6
DECAYING = ("optimizers[*-full-adamw-constant]", "optimizers[*-full-adamw-linear]")


@fault("optimizer", replaces=(torch.optim.AdamW, "__init__"), fitted=True)
def learning_rate_zero(
    original: Any, optimizer: Any, params: Any, *args: Any, **kwargs: Any
) -> None:
    """Build AdamW with a rate of 0.

    Stands for runs whose first steps are all there are: one step under 100 warm-up steps has it.
    """
    original(optimizer, params, *args, **{**kwargs, "lr": 0.0})


@fault(
    "scheduler",
    replaces=(torch.optim.lr_scheduler.LambdaLR, "step"),
    seen_by=("schedules[*-lora-linear]", "schedules[*-lora-cosine]"),
    fitted=True,
)
def scheduler_ignored(original: Any, schedule: Any) -> None:
    """Never step the schedule: the rate stays where it began.

    Stands for loops that make a schedule and forget it.
    """
    # The first call comes from the constructor and sets the rate.
    if schedule.last_epoch < 0:
        original(schedule)


@fault(
    "accumulation",
    replaces=(SFTConfig, "__init__"),
    seen_by=("accumulation[*-lora-unequal]", "single-rows[*-lora]"),
    fitted=True,
)
def accumulation_ignored(original: Any, arguments: Any, *args: Any, **settings: Any) -> None:
    """Step after each micro-batch, whatever was configured.

    Stands for settings that a launcher's own configuration overrules.
    """
    original(arguments, *args, **{**settings, "gradient_accumulation_steps": 1})


@fault("optimizer", replaces=(torch.optim.AdamW, "__init__"))
def beta2_of_its_own(original: Any, optimizer: Any, params: Any, *args: Any, **kwargs: Any) -> None:
    """Build AdamW with a second beta of 0.99, whatever was configured.

    Stands for arguments that never reach the optimizer (huggingface/transformers#21317) or that it
    has no place for (NVIDIA-NeMo/Speech#775).
    """
    beta1, _ = kwargs["betas"]
    original(optimizer, params, *args, **{**kwargs, "betas": (beta1, OTHER_BETA)})


@fault("optimizer", replaces=(adam, "adam"))
def bias_not_corrected(original: Any, *args: Any, **kwargs: Any) -> None:
    """Leave out Adam's correction of moments that began at zero.

    Stands for google-research/bert#153 ("mostly an oversight") and ml-explore/mlx#1640.
    """
    steps = args[5]
    for step in steps:
        step.add_(SETTLED)
    original(*args, **kwargs)
    for step in steps:
        step.sub_(SETTLED)


@fault("optimizer", replaces=(adam, "adam"), seen_by=DECAYING)
def decay_in_the_gradient(original: Any, *args: Any, **kwargs: Any) -> None:
    """Let AdamW's weight decay enter the gradient, as Adam's does.

    Stands for optimizers that are called AdamW and decay like Adam (arXiv:1711.05101).
    """
    original(*args, **{**kwargs, "decoupled_weight_decay": False})


@fault("optimizer", replaces=(Trainer, "get_decay_parameter_names"), seen_by=DECAYING)
def norms_decayed(_original: Any, trainer: Any, model: Any) -> Any:
    """Let norms decay like all other weights.

    Stands for ServiceNow/Fast-LLM#545 and oumi-ai/oumi#341: a list of names that fits no model.
    """
    return [name for name, _ in model.named_parameters()]


@fault("optimizer", replaces=(torch.optim.AdamW, "__init__"))
def one_tensor_left_out(
    original: Any, optimizer: Any, params: Any, *args: Any, **kwargs: Any
) -> None:
    """Leave one trained tensor out of the optimizer's groups.

    Stands for groups that are made by names, between which one falls through.
    """
    groups = [dict(group) for group in params]
    groups[0]["params"] = list(groups[0]["params"])[1:]
    original(optimizer, groups, *args, **kwargs)


@fault("optimizer", fitted=True, subtle=True)
def moments_rounded(config: Configuration) -> Iterator[None]:
    """Round the second moment to bfloat16 after each step; it stays float32 by name.

    Stands for states of fewer bits than asked for, in which small changes of 0.1 % are lost.
    """

    def after(optimizer: Any, *_: object) -> None:
        for state in optimizer.state.values():
            if "exp_avg_sq" in state:
                state["exp_avg_sq"].copy_(state["exp_avg_sq"].to(torch.bfloat16))

    handle = register_optimizer_step_post_hook(after)
    try:
        yield
    finally:
        handle.remove()


@fault("optimizer", replaces=(AcceleratedOptimizer, "step"))
def every_eighth_step_skipped(
    original: Any, optimizer: Any, *args: Any, call: int, **kwargs: Any
) -> None:
    """Leave out each eighth step, as if its gradients had overflowed.

    Stands for scalers that find an infinity where there is none, or that nobody told of bfloat16.
    """
    if call % SKIPPED:
        original(optimizer, *args, **kwargs)


@fault("optimizer", replaces=(AcceleratedOptimizer, "step"), fitted=True)
def moments_forgotten_halfway(
    original: Any, optimizer: Any, *args: Any, call: int, **kwargs: Any
) -> None:
    """Drop all moments after the sixth step, once.

    Stands for optimizers that are built anew when something is added, frozen or moved to another
    device in the course of training.
    """
    original(optimizer, *args, **kwargs)
    if call == FORGOTTEN:
        optimizer.optimizer.state.clear()


@fault(
    "optimizer",
    replaces=(torch.optim.SGD, "__init__"),
    seen_by=("optimizers[*-full-sgd-constant]", "optimizers[*-full-sgd-cosine]"),
)
def momentum_unasked(original: Any, optimizer: Any, params: Any, *args: Any, **kwargs: Any) -> None:
    """Build SGD with a momentum of 0.5, where plain SGD was asked for.

    Stands for wrappers whose defaults aren't those of the optimizer beneath.
    """
    original(optimizer, params, *args, **{**kwargs, "momentum": 0.5})
