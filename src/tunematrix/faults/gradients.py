"""Faults in what the backward pass brings: small enough for a loss curve to hide them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any

import torch

from tunematrix.faults.patching import replaced

EXCESS = 1.01


@contextmanager
def scaled_by_one_percent(config: Mapping[str, Any]) -> Iterator[None]:
    """Make each gradient 1 % too large, while the logged loss stays what it was.

    Stands for divisors that count a few tokens too many (huggingface/transformers#34191).
    """

    def wrap(original: Any) -> Any:
        return lambda loss, *args, **kwargs: original(loss * EXCESS, *args, **kwargs)

    with replaced(torch.Tensor, "backward", wrap):
        yield


@contextmanager
def last_micro_batch_lost(config: Mapping[str, Any]) -> Iterator[None]:
    """Let the last micro-batch of each step leave no gradient.

    Stands for loops that step, or zero the gradients, one micro-batch off.
    """
    accumulation = int(config["train"]["accumulation"])
    calls = count(1)

    def wrap(original: Any) -> Any:
        def backward(loss: Any, *args: Any, **kwargs: Any) -> None:
            original(loss * (next(calls) % accumulation != 0), *args, **kwargs)

        return backward

    with replaced(torch.Tensor, "backward", wrap):
        yield


@contextmanager
def rank_left_out(config: Mapping[str, Any]) -> Iterator[None]:
    """Let the second process bring no gradient to the average.

    Stands for processes that leave the average early, or have nothing left of the data.
    """

    def wrap(original: Any) -> Any:
        def backward(loss: Any, *args: Any, **kwargs: Any) -> None:
            original(loss * (int(os.environ.get("RANK", "0")) != 1), *args, **kwargs)

        return backward

    with replaced(torch.Tensor, "backward", wrap):
        yield
