"""A second adapter on the layers of the first: at rest, active but frozen, or trained with it."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from peft import LoraConfig, PeftModel

Beside = Literal["none", "resting", "frozen", "trained"]
ACTIVE: tuple[Beside, ...] = ("frozen", "trained")
NAME = "beside"
SIZE = 0.02
"""Standard deviation of its second factor: too large to be overlooked."""
SEED = 7
ZERO = ("lora_B", "lora_embedding_A")
"""Factors that start at zero: of embeddings, the first."""


def checked(beside: Beside, *, dora: bool) -> Beside:
    """Return the setting.

    Raises:
        ValueError: it is none that there is, or nothing says what the adapters give together.
    """
    if dora and beside in ACTIVE:
        message = (
            f"method.implementation.beside={beside} can't be had with DoRA: its paper says nothing "
            "of two on one layer (PEFT lets the second scale the first); take resting, or lora"
        )
        raise ValueError(message)
    if beside not in get_args(Beside):
        known = ", ".join(get_args(Beside))
        message = f"method.implementation.beside={beside} isn't known; write one of {known}"
        raise ValueError(message)
    return beside


def add(adapted: PeftModel, config: LoraConfig, first: str, beside: Beside) -> None:
    """Put a second adapter beside the `first` of an adapted model, in place."""
    if beside == "none":
        return
    adapted.add_adapter(NAME, config)
    fill(adapted, NAME)
    if beside not in ACTIVE:
        adapted.set_adapter(first)
        return
    adapted.base_model.set_adapter([first, NAME])
    for name, parameter in adapted.named_parameters():
        if f".{NAME}." in f"{name}.":
            parameter.requires_grad_(beside == "trained")


def fill(adapted: PeftModel, adapter: str) -> None:
    """Give those of an adapter's factors that start at zero values of their own."""
    draws = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if any(f"{kind}.{adapter}." in f"{name}." for kind in ZERO):
                values = torch.randn(parameter.shape, generator=draws) * SIZE
                parameter.copy_(values)
