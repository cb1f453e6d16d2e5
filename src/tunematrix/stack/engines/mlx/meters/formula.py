"""Each adapted layer beside its formula: LoRA's, or DoRA's with the norm that it holds constant.

LoRA: y = W x + s B A x (arXiv 2106.09685). DoRA: the same sum, each output multiplied by m over the
norm of its row of W + s B A, through which no gradient flows (arXiv 2402.09353, section 4.3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import mlx.core as mx
import numpy as np
from mlx import nn

from tunematrix.evidence.events import AdapterFormula, LayerFormula
from tunematrix.stack.engines.common import Base
from tunematrix.stack.engines.mlx.scoring import evaluating
from tunematrix.stack.yardsticks import rounding
from tunematrix.stack.yardsticks.independence import AdapterStart, independence

ROWS = 8
SEED = 0
Tensors = Mapping[str, mx.array]


def measure(
    model: nn.Module, base: Base, dtype: mx.Dtype, scale: Callable[[str], float]
) -> AdapterFormula:
    """Compare outputs and gradients, dropout off, for inputs of `dtype`; `scale` is by layer.

    Draws from keys of its own, so that what follows draws what it would have drawn.
    """
    modules = dict(model.named_modules())
    keys = mx.random.split(mx.random.key(SEED), len(base.linears))
    with evaluating(model):
        measured = tuple(
            LayerFormula(name, *_errors(modules[name], dtype, scale(name), key))
            for name, key in zip(base.linears, keys, strict=True)
        )
    return AdapterFormula(measured)


def start(model: nn.Module, base: Base) -> AdapterStart:
    """Measure the first factors of all adapters."""
    modules = dict(model.named_modules())
    layers = (modules[name] for name in base.linears)
    factors = (layer.lora_a for layer in layers if "lora_a" in layer)
    return AdapterStart.of(np.array(factor.astype(mx.float32)).T for factor in factors)


def _errors(
    layer: nn.Module, dtype: mx.Dtype, scale: float, key: mx.array
) -> tuple[float, float, float, int]:
    """Return the errors of output and worst gradient; independence and rank of the first factor."""
    one, other = mx.random.split(key)
    tensors = {name: layer[name] for name in ("lora_a", "lora_b", "m") if name in layer}
    rows = mx.random.normal((ROWS, layer.lora_a.shape[0]), key=one).astype(dtype)
    above = mx.random.normal((ROWS, layer.lora_b.shape[1]), key=other).astype(dtype)

    def computed(given: Tensors) -> mx.array:
        layer.update({name: given[name] for name in tensors})
        return layer(given["rows"])

    def due(given: Tensors) -> mx.array:
        return _formula(layer.linear, given, scale)

    leaves = {**tensors, "rows": rows}
    out, wanted = computed(leaves), due(leaves)
    found = mx.grad(lambda given: (computed(given) * above).sum())(leaves)
    gradients = mx.grad(lambda given: (due(given) * above).sum())(leaves)
    layer.update(tensors)
    errors = [_relative(found[name], gradients[name]) for name in leaves]
    # An array's largest keeps a nan, which max may lose.
    factor = np.array(tensors["lora_a"].astype(mx.float32))
    worst = float(np.max(errors))
    return _relative(out, wanted), worst, independence(factor), factor.shape[1]


def _formula(linear: nn.Module, given: Tensors, scale: float) -> mx.array:
    rows, first, second = given["rows"], given["lora_a"], given["lora_b"]
    whole = linear(rows) + scale * ((rows @ first) @ second)
    if "m" not in given:
        return whole
    bias = linear.bias if "bias" in linear else 0
    adapted = _weight(linear, rows).astype(mx.float32) + scale * (first @ second).T
    norm = mx.stop_gradient(mx.linalg.norm(adapted, axis=1))
    return (whole - bias) * (given["m"] / norm) + bias


def _weight(linear: nn.Module, rows: mx.array) -> mx.array:
    """Return the weight that a layer of such inputs stands for, (out, in), however it is stored."""
    if isinstance(linear, nn.Linear):
        return linear.weight
    bias = linear.bias if "bias" in linear else 0
    return (linear(mx.eye(rows.shape[1], dtype=rows.dtype)) - bias).T


def _relative(found: mx.array, wanted: mx.array) -> float:
    one, other = (np.array(tensor.astype(mx.float32)) for tensor in (found, wanted))
    return rounding.relative(one - other, other)
