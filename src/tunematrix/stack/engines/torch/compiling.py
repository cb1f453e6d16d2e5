"""What trains, compiled: by TRL's trainers themselves, or by torch.compile for our own loop."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tunematrix.configuration.settings import TrainSettings
from tunematrix.stack.engines.torch.training import TorchTraining

VARIABLES = "ACCELERATE_DYNAMO_"
"""How the variables begin by which transformers tells accelerate to compile."""


def arguments(settings: TrainSettings) -> dict[str, Any]:
    """Return what a trainer of TRL's is told; nothing where nothing is to be compiled.

    Without a word about tf32, transformers switches it on for the whole process.
    """
    if not settings.is_compiled:
        return {}
    return {"torch_compile": True, "torch_compile_backend": settings.compile, "tf32": False}


@contextmanager
def undone() -> Iterator[None]:
    """Take back the variables that are set meanwhile: they hold for the whole process."""
    before = {name: value for name, value in os.environ.items() if name.startswith(VARIABLES)}
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith(VARIABLES)]:
            del os.environ[name]
        os.environ.update(before)


def compiled(model: nn.Module, settings: TrainSettings) -> nn.Module:
    """Return what calls `model`, compiled if it is to be."""
    if not settings.is_compiled:
        return model
    found: nn.Module = torch.compile(model, backend=settings.compile)
    return found


def refuse(model: nn.Module, training: TorchTraining) -> None:
    """Refuse to compile what nobody could then tell from an error.

    Raises:
        ValueError: the model drops something, or computes in half precision.
    """
    settings = training.settings
    if not settings.is_compiled:
        return
    asked = f"train.compile={settings.compile} can't be had"
    if any(isinstance(layer, nn.Dropout) and layer.p > 0 for layer in model.modules()):
        message = (
            f"{asked} with dropout: what a compiled model drops can't be seen, nor drawn again; "
            "set dropout to 0"
        )
        raise ValueError(message)
    if training.compute != "float32":
        message = (
            f"{asked} in {training.compute}: a compiled model rounds elsewhere, by about 1 % of a "
            "gradient, which would hide errors; take precision=fp32"
        )
        raise ValueError(message)
