"""Faults in the optimizer, and in what it is told."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import torch
from accelerate.optimizer import AcceleratedOptimizer
from torch.optim import adam
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import Trainer
from trl import SFTConfig

from tunematrix.faults.catalogue import Config, fault
from tunematrix.faults.patching import replaced

OTHER_BETA = 0.99
SETTLED = 10_000
"""A step whose correction of Adam's moments is next to nothing."""
SKIPPED = 8
FORGOTTEN = 6
DECAYING = ("optimizers[*-full-adamw-constant]", "optimizers[*-full-adamw-linear]")


@fault("optimizer")
def learning_rate_zero(config: Config) -> Iterator[None]:
    """Build AdamW with a rate of 0.

    Stands for runs whose first steps are all there are: one step under 100 warm-up steps has it.
    """

    def wrap(original: Any) -> Any:
        def init(optimizer: Any, params: Any, *args: Any, **kwargs: Any) -> None:
            original(optimizer, params, *args, **{**kwargs, "lr": 0.0})

        return init

    with replaced(torch.optim.AdamW, "__init__", wrap):
        yield


@fault("scheduler", seen_by=("schedules[*-lora-linear]", "schedules[*-lora-cosine]"))
def scheduler_ignored(config: Config) -> Iterator[None]:
    """Never step the schedule: the rate stays where it began.

    Stands for loops that make a schedule and forget it.
    """

    def wrap(original: Any) -> Any:
        def step(schedule: Any) -> None:
            # The first call comes from the constructor and sets the rate.
            if schedule.last_epoch < 0:
                original(schedule)

        return step

    with replaced(torch.optim.lr_scheduler.LambdaLR, "step", wrap):
        yield


@fault("accumulation", seen_by=("accumulation[*-lora-unequal]", "single-rows[*-lora]"))
def accumulation_ignored(config: Config) -> Iterator[None]:
    """Step after each micro-batch, whatever was configured.

    Stands for settings that a launcher's own configuration overrules.
    """

    def wrap(original: Any) -> Any:
        def init(config: Any, *args: Any, **settings: Any) -> None:
            original(config, *args, **{**settings, "gradient_accumulation_steps": 1})

        return init

    with replaced(SFTConfig, "__init__", wrap):
        yield


@fault("optimizer")
def beta2_of_its_own(config: Config) -> Iterator[None]:
    """Build AdamW with a second beta of 0.99, whatever was configured.

    Stands for arguments that never reach the optimizer (huggingface/transformers#21317) or that it
    has no place for (NVIDIA-NeMo/Speech#775).
    """

    def wrap(original: Any) -> Any:
        def init(optimizer: Any, params: Any, *args: Any, **kwargs: Any) -> None:
            beta1, _ = kwargs["betas"]
            original(optimizer, params, *args, **{**kwargs, "betas": (beta1, OTHER_BETA)})

        return init

    with replaced(torch.optim.AdamW, "__init__", wrap):
        yield


@fault("optimizer")
def bias_not_corrected(config: Config) -> Iterator[None]:
    """Leave out Adam's correction of moments that began at zero.

    Stands for google-research/bert#153 ("mostly an oversight") and ml-explore/mlx#1640.
    """

    def wrap(original: Any) -> Any:
        def update(*args: Any, **kwargs: Any) -> None:
            steps = args[5]
            for step in steps:
                step.add_(SETTLED)
            original(*args, **kwargs)
            for step in steps:
                step.sub_(SETTLED)

        return update

    with replaced(adam, "adam", wrap):
        yield


@fault("optimizer", seen_by=DECAYING)
def decay_in_the_gradient(config: Config) -> Iterator[None]:
    """Let AdamW's weight decay enter the gradient, as Adam's does.

    Stands for optimizers that are called AdamW and decay like Adam (arXiv:1711.05101).
    """

    def wrap(original: Any) -> Any:
        def update(*args: Any, **kwargs: Any) -> None:
            original(*args, **{**kwargs, "decoupled_weight_decay": False})

        return update

    with replaced(adam, "adam", wrap):
        yield


@fault("optimizer", seen_by=DECAYING)
def norms_decayed(config: Config) -> Iterator[None]:
    """Let norms decay like all other weights.

    Stands for ServiceNow/Fast-LLM#545 and oumi-ai/oumi#341: a list of names that fits no model.
    """

    def wrap(original: Any) -> Any:
        return lambda trainer, model: [name for name, _ in model.named_parameters()]

    with replaced(Trainer, "get_decay_parameter_names", wrap):
        yield


@fault("optimizer")
def one_tensor_left_out(config: Config) -> Iterator[None]:
    """Leave one trained tensor out of the optimizer's groups.

    Stands for groups that are made by names, between which one falls through.
    """

    def wrap(original: Any) -> Any:
        def init(optimizer: Any, params: Any, *args: Any, **kwargs: Any) -> None:
            groups = [dict(group) for group in params]
            groups[0]["params"] = list(groups[0]["params"])[1:]
            original(optimizer, groups, *args, **kwargs)

        return init

    with replaced(torch.optim.AdamW, "__init__", wrap):
        yield


@fault("optimizer")
def moments_rounded(config: Config) -> Iterator[None]:
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


@fault("optimizer")
def every_eighth_step_skipped(config: Config) -> Iterator[None]:
    """Leave out each eighth step, as if its gradients had overflowed.

    Stands for scalers that find an infinity where there is none, or that nobody told of bfloat16.
    """
    steps = count(1)

    def wrap(original: Any) -> Any:
        def step(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            if next(steps) % SKIPPED:
                original(optimizer, *args, **kwargs)

        return step

    with replaced(AcceleratedOptimizer, "step", wrap):
        yield


@fault("optimizer")
def moments_forgotten_halfway(config: Config) -> Iterator[None]:
    """Drop all moments after the sixth step, once.

    Stands for optimizers that are built anew when something is added, frozen or moved to another
    device in the course of training.
    """
    steps = count(1)

    def wrap(original: Any) -> Any:
        def step(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            original(optimizer, *args, **kwargs)
            if next(steps) == FORGOTTEN:
                optimizer.optimizer.state.clear()

        return step

    with replaced(AcceleratedOptimizer, "step", wrap):
        yield


@fault("optimizer", seen_by=("optimizers[*-full-sgd-constant]", "optimizers[*-full-sgd-cosine]"))
def momentum_unasked(config: Config) -> Iterator[None]:
    """Build SGD with a momentum of 0.5, where plain SGD was asked for.

    Stands for wrappers whose defaults aren't those of the optimizer beneath.
    """

    def wrap(original: Any) -> Any:
        def init(optimizer: Any, params: Any, *args: Any, **kwargs: Any) -> None:
            original(optimizer, params, *args, **{**kwargs, "momentum": 0.5})

        return init

    with replaced(torch.optim.SGD, "__init__", wrap):
        yield
