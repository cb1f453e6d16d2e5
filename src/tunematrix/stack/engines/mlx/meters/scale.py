"""The factor with which an adapter's product really enters a layer's output."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
from mlx import nn

from tunematrix.evidence.events import AdapterScale, LayerScale
from tunematrix.stack.engines.common import Base
from tunematrix.stack.engines.mlx.scoring import doubles, evaluating
from tunematrix.stack.yardsticks.magnifying import magnification

ROWS = 8


def measure(model: nn.Module, base: Base, dtype: mx.Dtype) -> AdapterScale:
    """Regress each layer's adapter part on B A x, for inputs of `dtype` drawn at random."""
    modules = dict(model.named_modules())
    # With dropout on, the factor would be another one for each input.
    with evaluating(model):
        layers = (LayerScale(name, _factor(modules[name], dtype)) for name in base.linears)
        return AdapterScale(tuple(layers))


def _factor(layer: nn.Module, dtype: mx.Dtype) -> float:
    inputs = mx.random.normal((ROWS, layer.lora_a.shape[0])).astype(dtype)
    plain, second = doubles(layer.linear(inputs)), layer.lora_b
    product = doubles(inputs) @ doubles(layer.lora_a) @ doubles(second)
    # What a young adapter adds is lost in the rounding of a base in half precision.
    times = magnification(float(np.linalg.norm(plain)), float(np.linalg.norm(product)))
    layer.lora_b = second * times
    part = (doubles(layer(inputs)) - plain) / times
    layer.lora_b = second
    with np.errstate(invalid="ignore"):  # nan is the answer where there is no product
        return float((part * product).sum() / (product * product).sum())
