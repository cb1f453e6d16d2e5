"""A configuration goes in; an MLX optimizer, on the schedule it asks for, comes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
from mlx import optimizers
from mlx.optimizers import schedulers

from tunematrix.configuration import Configuration

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
    settings: dict[str, Any] = {
        "betas": [option.beta1, option.beta2],
        "eps": option.eps,
        "bias_correction": True,
    }
    if option.name == "adamw":
        return optimizers.AdamW(rate, weight_decay=decay, **settings)
    if decay:
        message = f"weight_decay={decay} can't be had: MLX's Adam knows none; take adamw"
        raise ValueError(message)
    return optimizers.Adam(rate, **settings)


def schedule(config: Configuration) -> Schedule:
    """Return the rate of each step, from 0, as a function of MLX's step counter."""
    train = config.train
    peak, warm = train.learning_rate, train.warmup_steps
    rest = max(1, train.max_steps - warm)
    after: Schedule = {
        "constant": lambda: schedulers.linear_schedule(peak, peak, rest),
        "linear": lambda: schedulers.linear_schedule(peak, 0.0, rest),
        "cosine": lambda: schedulers.cosine_decay(peak, rest),
    }[config.scheduler.name]()
    if not warm:
        return after
    # mlx-lm's own build_schedule joins one step later, and so runs behind by one.
    return schedulers.join_schedules([schedulers.linear_schedule(0.0, peak, warm), after], [warm])
