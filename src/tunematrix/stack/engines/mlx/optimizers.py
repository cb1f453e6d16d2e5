"""A configuration goes in; an MLX optimizer, on the schedule it asks for, comes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
from mlx import optimizers
from mlx.optimizers import schedulers

from tunematrix.configuration import Configuration
from tunematrix.configuration.options import OptimizerOption

Schedule = Callable[[mx.array], mx.array]


def build(config: Configuration) -> optimizers.Optimizer:
    """Make the configured optimizer, with bias correction as everyone else has it.

    Raises:
        ValueError: MLX's Adam is asked for weight decay.
    """
    option, decay = config.optimizer, config.train.weight_decay
    rate = schedule(config)
    if option.name == "sgd":
        return optimizers.SGD(rate, momentum=option.momentum, weight_decay=decay)
    if option.name == "adamw":
        return adamw(rate, decay, option)
    if decay:
        message = f"weight_decay={decay} can't be had: MLX's Adam knows none; take adamw"
        raise ValueError(message)
    return optimizers.Adam(rate, **_moments(option))


def adamw(rate: Schedule, decay: float, option: OptimizerOption) -> optimizers.Optimizer:
    """Make an AdamW with the moments of an option."""
    return optimizers.AdamW(rate, weight_decay=decay, **_moments(option))


def _moments(option: OptimizerOption) -> dict[str, Any]:
    return {"betas": [option.beta1, option.beta2], "eps": option.eps, "bias_correction": True}


def schedule(config: Configuration) -> Schedule:
    """Return the configured rate of each step, from 0, as a function of MLX's step counter."""
    train = config.train
    return rate_of(config.scheduler.name, train.learning_rate, train.max_steps, train.warmup_steps)


def rate_of(kind: str, peak: float, steps: int, warm: int) -> Schedule:
    """Return the rate of each step, from 0, as a function of MLX's step counter.

    Args:
        kind: constant, linear or cosine, after the warm-up. peak: the full rate.
        steps: of the whole run; warm: of them, those in which the rate rises.
    """
    rest = max(1, steps - warm)
    after: Schedule = {
        "constant": lambda: schedulers.linear_schedule(peak, peak, rest),
        "linear": lambda: schedulers.linear_schedule(peak, 0.0, rest),
        "cosine": lambda: schedulers.cosine_decay(peak, rest),
    }[kind]()
    if not warm:
        return after
    # mlx-lm's own build_schedule joins one step later, and so runs behind by one.
    return schedulers.join_schedules([schedulers.linear_schedule(0.0, peak, warm), after], [warm])
