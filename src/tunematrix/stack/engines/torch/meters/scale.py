"""The factor with which an adapter's product really enters a layer's output."""

from __future__ import annotations

import math

import torch
from torch import nn

from tunematrix.evidence.events import AdapterScale, LayerScale
from tunematrix.stack.engines.common import Base
from tunematrix.stack.engines.torch.meters.formula import active_factors
from tunematrix.stack.engines.torch.scoring import evaluating
from tunematrix.stack.yardsticks.blame import accepted

ROWS = 8


def measure(model: nn.Module, base: Base, dtype: torch.dtype) -> AdapterScale:
    """Regress each layer's adapter part on B A x, for inputs of `dtype` drawn at random."""
    layers = (
        (name, layer)
        for name, layer in model.named_modules()
        if name.endswith(base.linears) and hasattr(layer, "base_layer")
    )
    # With dropout on, the factor would be another one for each input.
    with evaluating(model):
        return AdapterScale(
            tuple(
                LayerScale(name, factor)
                for name, layer in layers
                for factor in _scales(layer, dtype)
            )
        )


def _scales(layer: nn.Module, dtype: torch.dtype) -> list[float]:
    """Return the factor of each active adapter on a layer, found together."""
    adapters = [factors[:2] for factors in active_factors(layer)]
    first = adapters[0][0]
    inputs = torch.randn(ROWS, first.shape[1], device=first.device, dtype=dtype)
    base = layer.get_submodule("base_layer")
    with torch.enable_grad():
        # Without a gradient some libraries repack their weights at this pass.
        inputs.requires_grad_()
        if accepted(layer, inputs) is None:
            return [math.nan] * len(adapters)
        part = (layer(inputs) - base(inputs)).detach().double().flatten()
    rows = inputs.detach().double()
    products = torch.stack([(rows @ a.double().T @ b.double().T).flatten() for a, b in adapters])
    finite = bool(torch.isfinite(products).all()) and bool(torch.isfinite(part).all())
    if not (finite and bool(products.detach().any(dim=1).all())):
        return [math.nan] * len(adapters)  # of a product that is zero there is no factor
    return torch.linalg.lstsq(products.detach().T, part.unsqueeze(1)).solution.flatten().tolist()
