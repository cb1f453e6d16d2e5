"""A freshly loaded base beside its checkpoint's own tensors: weights, products, gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx import nn
from mlx.utils import tree_flatten

from tunematrix.configuration.theory import Rounding
from tunematrix.evidence.events import (
    BaseWeights,
    LayerProduct,
    LayerWeight,
    LoadedParameter,
    StoredState,
)
from tunematrix.stack.engines.common import Base
from tunematrix.stack.yardsticks import fineness, group_scales, rounding

ROWS, NORM_ROWS = 16, 64
POSITIONS = 128
SEED = 0


def measure(model: nn.Module, base: Base, checkpoint: Path, form: Rounding | None) -> BaseWeights:
    """Hold each tensor of the checkpoint against what was loaded; `form`: how it is rounded.

    Draws from keys of its own, so that what follows draws what it would have drawn.
    """
    files = sorted(checkpoint.glob("*.safetensors"))
    originals = {name: t for file in files for name, t in mx.load(str(file)).items()}
    modules, key = dict(model.named_modules()), mx.random.key(SEED)
    layers, products, groups, scales = [], [], [], []
    embeddings = [n for n, m in modules.items() if isinstance(m, nn.QuantizedEmbedding)]
    for name in (*base.linears, *embeddings):
        if (original := originals.get(f"{name}.weight")) is None:
            continue
        wanted, weight = original.astype(mx.float32), stored(modules[name])
        error = _relative(weight - wanted, wanted)
        layers.append(LayerWeight(name, error, rounding.error(np.array(wanted), form)))
        if form is not None:
            both = np.array(weight), np.array(wanted), form
            groups.append(LayerWeight(name, *rounding.worst_group(*both)))
            scales.append(group_scales.measure(name, *both))
        if name in embeddings:
            continue  # looked up, not multiplied by
        key, own = mx.random.split(key)
        products.append(LayerProduct(name, *_products(modules[name], weight, own)))
    seen = {f"{layer.name}.weight" for layer in layers}
    norms = tuple(_norms(modules))
    return BaseWeights(
        layers=tuple(layers),
        products=tuple(products),
        others=tuple(_others(model, seen, originals)),
        groups=tuple(groups),
        parts=(*(LoadedParameter(name, error) for name, error, _ in norms), *_rotaries(modules)),
        states=tuple(_states(modules, base)) if form is not None else (),
        rows=tuple(LoadedParameter(name, rows) for name, _, rows in norms),
        scales=tuple(scales),
    )


def _norms(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, float, float]]:
    """Yield how far each norm is from its definition, and how far its rows are as a whole.

    Of a model's own RMSNorm, as mlx-lm's Gemma has one, the definition may be that with 1 + w.
    """
    keys = iter(mx.random.split(mx.random.key(SEED + 1), 1 + len(modules)))
    for name, module in modules.items():
        is_own = not isinstance(module, nn.RMSNorm)
        if type(module).__name__ == nn.RMSNorm.__name__ and "weight" in module:
            weight = module.weight
            rows = 3 * mx.random.normal((NORM_ROWS, len(weight)), key=next(keys))
            rows = rows.astype(weight.dtype)
            given, own = (np.array(one.astype(mx.float32), np.float64) for one in (rows, weight))
            scaled = given / np.sqrt((given**2).mean(-1, keepdims=True) + module.eps)
            found = np.array(module(rows).astype(mx.float32), np.float64)
            ways = (own * scaled, (1 + own) * scaled) if is_own else (own * scaled,)
            due = min(ways, key=lambda one: rounding.relative(found - one, one))
            yield name, rounding.relative(found - due, due), fineness.as_a_whole(found, due)


def _rotaries(modules: Mapping[str, nn.Module]) -> Iterator[LoadedParameter]:
    """Yield the largest error of each rotary embedding beside its definition."""
    keys = iter(mx.random.split(mx.random.key(SEED + 2), 1 + len(modules)))
    for name, module in modules.items():
        if isinstance(module, nn.RoPE) and module.scale == 1 and not module.traditional:
            rows = mx.random.normal((1, 1, POSITIONS, module.dims), key=next(keys))
            given = np.array(rows, np.float64)[0, 0]
            half = module.dims // 2
            angles = np.arange(POSITIONS)[:, None] * module.base ** (-np.arange(half) / half)
            one, other = given[:, :half], given[:, half:]
            cos, sin = np.cos(angles), np.sin(angles)
            due = np.concatenate((one * cos - other * sin, other * cos + one * sin), axis=1)
            found = np.array(module(rows))[0, 0]
            yield LoadedParameter(name, float(np.abs(found - due).max()))


def _states(modules: Mapping[str, nn.Module], base: Base) -> Iterator[StoredState]:
    """Yield how fine scales and biases in float32 are, of all layers together."""
    for kind in ("scales", "biases"):
        found = [modules[name][kind] for name in base.linears if kind in modules[name]]
        values = [np.array(one).flatten() for one in found if one.dtype == mx.float32]
        if values and (bits := fineness.bits(np.concatenate(values))) is not None:
            yield StoredState(f"{base.linears[0]}.{kind}", bits)


def _others(
    model: nn.Module, seen: set[str], originals: Mapping[str, mx.array]
) -> Iterator[LoadedParameter]:
    """Yield the errors of norms and biases, and of embeddings that aren't quantized."""
    for name, parameter in tree_flatten(model.parameters()):
        if name in seen or (original := originals.get(name)) is None:
            continue
        wanted = original.astype(mx.float32)
        yield LoadedParameter(name, _relative(parameter.astype(mx.float32) - wanted, wanted))


def stored(layer: nn.Module) -> mx.array:
    """Return the weight that a layer stands for, (out, in)."""
    if not isinstance(layer, nn.QuantizedLinear | nn.QuantizedEmbedding):
        return layer.weight.astype(mx.float32)
    return mx.dequantize(
        layer.weight, layer.scales, layer.biases, layer.group_size, layer.bits
    ).astype(mx.float32)


def _products(layer: nn.Module, weight: mx.array, key: mx.array) -> tuple[float, float]:
    """Return the relative errors of a layer's products, and of the gradients they hand back."""
    one, other = mx.random.split(key)
    dtype = layer.scales.dtype if "scales" in layer else layer.weight.dtype
    rows = mx.random.normal((ROWS, weight.shape[1]), key=one).astype(dtype)
    above = mx.random.normal((ROWS, weight.shape[0]), key=other).astype(dtype)
    (out,), (gradient,) = mx.vjp(lambda x: [layer(x)], [rows], [above])
    due, back = rows.astype(mx.float32) @ weight.T, above.astype(mx.float32) @ weight
    if "bias" in layer:
        due += layer.bias
    return _relative(out.astype(mx.float32) - due, due), _relative(gradient - back, back)


def _relative(difference: mx.array, of: mx.array) -> float:
    return rounding.relative(
        np.array(difference.astype(mx.float32)), np.array(of.astype(mx.float32))
    )
