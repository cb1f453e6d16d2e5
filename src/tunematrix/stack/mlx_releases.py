"""What releases of MLX and mlx-lm call things, and what the older ones don't see to themselves.

Nothing here asks for a version: a signature or an attribute says what a release can do.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx_lm.utils import load_model

_TRUST = "trust_remote_code"


def device_info() -> dict[str, Any]:
    """Return what MLX tells of its device; nothing where an old one knows of Metal alone."""
    if hasattr(mx, "device_info"):
        return dict(mx.device_info())
    return dict(mx.metal.device_info()) if mx.metal.is_available() else {}


def load_trusted(folder: Path, lazy: bool = False) -> tuple[nn.Module, Any]:
    """Load a local folder with mlx-lm, and run no code that lies in it.

    Args:
        folder: of a checkpoint. lazy: whether weights are read once they are needed.

    Returns:
        The model, and its configuration as mlx-lm's functions take it.

    Raises:
        ValueError: the checkpoint brings code of its own to be loaded with.
    """
    if _TRUST in inspect.signature(load_model).parameters:
        model, config = load_model(folder, lazy=lazy, **{_TRUST: False})
        return model, config
    # Until 0.32, mlx-lm runs such a file without asking.
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if named := config.get("model_file"):
        text = (
            f"{folder}/config.json names code of its own, {named!r} (model_file), and it isn't run"
        )
        raise ValueError(f"{text}; use a checkpoint without it")
    model, config = load_model(folder, lazy=lazy)
    return model, config


def no_evaluation(train: Callable[..., object]) -> dict[str, list[Any]]:
    """Return arguments with which a release's function that trains evaluates on nothing.

    Before 0.31 it always evaluates. Without rows, and with `val_batches=0` in its own arguments,
    that takes no batch and draws no random number; it says that the loss is NaN.
    """
    rows = inspect.signature(train).parameters.get("val_dataset")
    must = rows is not None and rows.default is inspect.Parameter.empty
    return {"val_dataset": []} if must else {}
