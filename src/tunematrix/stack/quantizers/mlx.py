"""MLX's affine quantization: groups of weights with a scale and a bias, embeddings included."""

from __future__ import annotations

from typing import Any

from mlx import nn
from mlx_lm.utils import quantize_model

from tunematrix.configuration import Configuration


class Affine:
    """Quantizes as `mlx_lm.convert -q` does, with the model's own choice of layers.

    Args:
        bits: 4 or 8.
        group_size: weights that share a scale and a bias.
    """

    def __init__(self, bits: int, group_size: int) -> None:
        self.bits = bits
        self.group_size = group_size

    def store(self, model: nn.Module, config: Configuration) -> tuple[nn.Module, dict[str, Any]]:
        """Quantize a loaded model in place; say so in the checkpoint's configuration."""
        stored: tuple[nn.Module, dict[str, Any]] = quantize_model(
            model, config, group_size=self.group_size, bits=self.bits
        )
        return stored
