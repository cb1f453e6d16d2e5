"""Faults in the optimizer, its schedule and the accumulation of gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from tunematrix.faults.patching import replaced
from tunematrix.stack.engines.torch import sft_trainer


@contextmanager
def learning_rate_zero(config: Mapping[str, Any]) -> Iterator[None]:
    """Build AdamW with a rate of 0, as one step under 100 warm-up steps would have it."""

    def wrap(original: Any) -> Any:
        def init(optimizer: Any, params: Any, *args: Any, **kwargs: Any) -> None:
            original(optimizer, params, *args, **{**kwargs, "lr": 0.0})

        return init

    with replaced(torch.optim.AdamW, "__init__", wrap):
        yield


@contextmanager
def scheduler_ignored(config: Mapping[str, Any]) -> Iterator[None]:
    """Never step the schedule: the rate stays where it began."""

    def wrap(original: Any) -> Any:
        def step(schedule: Any) -> None:
            # The first call comes from the constructor and sets the rate.
            if schedule.last_epoch < 0:
                original(schedule)

        return step

    with replaced(torch.optim.lr_scheduler.LambdaLR, "step", wrap):
        yield


@contextmanager
def accumulation_ignored(config: Mapping[str, Any]) -> Iterator[None]:
    """Step after each micro-batch, whatever was configured."""

    def wrap(original: Any) -> Any:
        return lambda **settings: original(**{**settings, "gradient_accumulation_steps": 1})

    with replaced(sft_trainer, "SFTConfig", wrap):
        yield
