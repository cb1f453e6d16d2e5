"""Faults in what a checkpoint brings back, and in what an evaluation leaves behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from transformers import Trainer

from tunematrix.faults.patching import replaced


def optimizer_state_not_restored(config: Mapping[str, Any]) -> AbstractContextManager[None]:
    """Resume with fresh moments and a schedule that has forgotten how far it was.

    Stands for checkpoints that hold no optimizer.pt, or whose loading is skipped in silence.
    """
    return replaced(Trainer, "_load_optimizer_and_scheduler", _nothing)


def random_state_not_restored(config: Mapping[str, Any]) -> AbstractContextManager[None]:
    """Resume with whatever the random generators hold: other dropout masks are drawn."""
    return replaced(Trainer, "_load_rng_state", _nothing)


@contextmanager
def evaluation_draws_random_numbers(config: Mapping[str, Any]) -> Iterator[None]:
    """Let each evaluation use up a random number, so that the next dropout mask is another one."""

    def wrap(original: Any) -> Any:
        def evaluate(trainer: Any, *args: Any, **kwargs: Any) -> Any:
            torch.rand(1)
            return original(trainer, *args, **kwargs)

        return evaluate

    with replaced(Trainer, "evaluate", wrap):
        yield


def _nothing(original: Any) -> Any:
    return lambda *args, **kwargs: None
