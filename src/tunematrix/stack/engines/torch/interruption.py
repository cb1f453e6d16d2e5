"""Training that is ended halfway and resumed from its checkpoint alone.

Between the two stretches nothing of the first may be left to go on with: what was trained becomes
noise, every generator is seeded otherwise, and what the trainer wrapped around the model is taken
off, so what goes on has come from the checkpoint.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import Trainer, TrainerCallback

from tunematrix.configuration.settings import TrainSettings
from tunematrix.stack.engines.torch.training import Stopwatch

OTHER_SEED = 7919
"""Added to a run's own."""
WRAPPED = ("forward", "_original_forward", "_is_accelerate_prepared")
"""What accelerate and TRL set on modules of a model."""


class Stop(TrainerCallback):
    """Saves a checkpoint after a step and ends training there, as if it had been called off."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for both where the step is reached."""
        if state.global_step == self.step:
            control.should_save = control.should_training_stop = True


def step_of(settings: TrainSettings) -> int:
    """Return the step that a `train` section wants training interrupted after; 0 is none.

    Raises:
        ValueError: there is nothing before that step, or nothing left after it.
    """
    step, steps = settings.interrupt_at, settings.max_steps
    if step and not 0 < step < steps:
        message = f"train.interrupt_at={step} isn't between the first and the last of {steps} steps"
        raise ValueError(message)
    return step


def prepare(
    model: nn.Module,
    make: Callable[[], Trainer],
    step: int,
    idle: Stopwatch,
    renew: Callable[[], None] = lambda: None,
) -> Callable[[], None]:
    """Return what trains up to `step`, and then goes on from the checkpoint with a new trainer.

    `idle` measures what lies between the two, which is no training; `renew` makes of the model what
    a new trainer has to find.
    """
    unwrap = unwrapping(model)

    def take_off() -> None:
        unwrap()
        renew()

    return partial(_run, make(), model, make, step, idle, take_off)


def unwrapping(model: nn.Module) -> Callable[[], None]:
    """Return what takes off all that is wrapped around the forwards of `model` from now on.

    A resumed run has a fresh model. On one that was trained before, TRL replaces the forward that
    accelerate wrapped in autocast, and accelerate wraps no model twice.
    """
    before = [(m, {n: m.__dict__[n] for n in WRAPPED if n in m.__dict__}) for m in model.modules()]

    def unwrap() -> None:
        for module, own in before:
            for name in WRAPPED:
                module.__dict__.pop(name, None)
            module.__dict__.update(own)

    return unwrap


def _run(
    trainer: Trainer,
    model: nn.Module,
    again: Callable[[], Trainer],
    step: int,
    idle: Stopwatch,
    take_off: Callable[[], None],
) -> None:
    trainer.add_callback(Stop(step))
    trainer.train()
    checkpoint = Path(str(trainer.args.output_dir)) / f"checkpoint-{step}"
    with idle.running():
        take_off()
        reseed(trainer.args.seed + OTHER_SEED)
        # A trainer seeds what it draws from as it is made; what it trains comes from the disk.
        trainer = again()
        scramble(model)
    trainer.train(resume_from_checkpoint=str(checkpoint))


def reseed(seed: int) -> None:
    """Seed every generator."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def scramble(model: nn.Module) -> None:
    """Fill what is trained with noise."""
    generator = torch.Generator().manual_seed(OTHER_SEED)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
