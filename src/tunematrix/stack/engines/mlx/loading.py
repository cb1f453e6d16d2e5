"""A checkpoint folder comes in; an MLX model goes out, with the configuration it is saved with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten

from tunematrix.configuration import Configuration
from tunematrix.stack.engines.common import Base
from tunematrix.stack.engines.mlx.meters import parameters
from tunematrix.stack.mlx_releases import load_trusted

HEAD = "lm_head"


class MlxQuantizer(Protocol):
    """What `configs/quantizer/*.yaml` name in `implementation._target_`, for this engine."""

    def store(self, model: nn.Module, config: Configuration) -> tuple[nn.Module, dict[str, Any]]:
        """Store a loaded model's weights its way; say so in the checkpoint's configuration."""


def load(
    folder: Path, dtype: mx.Dtype, quantizer: MlxQuantizer | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """Load a local folder as `mlx_lm.convert` does: cast, then quantize; no remote code.

    Returns:
        The model, and the configuration that `mlx_lm.utils.save` wants beside it.
    """
    # Lazily, so that no weight is ever held in the checkpoint's dtype as well.
    model, config = load_trusted(folder, lazy=True)
    model.set_dtype(dtype)
    if quantizer is not None:
        model, config = quantizer.store(model, config)
    parameters.compute(model)
    return model, config


def describe(model: nn.Module) -> Base:
    """Read a `Base` off an original: its linear layers but the head."""
    linears = {
        name: layer.weight.shape
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and name != HEAD
    }
    # mlx yields the last layer first.
    names = sorted(linears)
    return Base(
        linears=tuple(names),
        shapes=tuple((linears[name][0], linears[name][1]) for name in names),
        parameters=tuple(name for name, _ in tree_flatten(model.parameters())),
        embedding="",
    )
