"""A model's folder, and an adapter's over it → the model itself, in MLX."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from hydra.utils import instantiate
from mlx import nn
from mlx_lm.tuner.utils import load_adapters

from tunematrix.configuration import Configuration
from tunematrix.stack.adapters import Format
from tunematrix.stack.engines.mlx.loading import MlxQuantizer, load
from tunematrix.stack.steps.sources import ModelSource

READS: Format = "mlx-lm"
"""The adapters that mlx-lm loads."""


def load_base(
    source: ModelSource, config: Configuration, dtype: str = "float32"
) -> tuple[nn.Module, dict[str, Any]]:
    """Load the base model as the cell's quantizer stores it.

    Returns:
        The model, and the configuration that `mlx_lm.utils.save` wants beside it.
    """
    quantizer: MlxQuantizer = instantiate(config.quantizer.implementation)
    return load(source.base, getattr(mx, dtype), quantizer)


def load_as_trained(source: ModelSource, config: Configuration, dtype: str) -> nn.Module:
    """Load a model with its adapter, if it has one, over the base as it was trained."""
    model, _ = load_base(source, config, dtype)
    if source.adapter is not None:
        model = load_adapters(model, str(source.adapter))
    model.eval()
    return model
