"""The factor with which an adapter's product really enters a layer's output."""

from __future__ import annotations

import math

import torch
from torch import nn

from tunematrix.evidence.events import AdapterScale, LayerScale
from tunematrix.stack.engines.common import Base
from tunematrix.stack.engines.torch.meters import embedding
from tunematrix.stack.engines.torch.meters.formula import active_factors
from tunematrix.stack.engines.torch.meters.weights import enlarged
from tunematrix.stack.engines.torch.scoring import evaluating
from tunematrix.stack.yardsticks.blame import accepted
from tunematrix.stack.yardsticks.magnifying import magnification
from tunematrix.stack.yardsticks.regression import coefficients

ROWS = 8
SEED = 0


def measure(model: nn.Module, base: Base, dtype: torch.dtype) -> AdapterScale:
    """Regress each layer's adapter part on B A x, for inputs of `dtype` drawn at random."""
    layers = (
        (name, layer)
        for name, layer in model.named_modules()
        if name.endswith(base.linears) and hasattr(layer, "base_layer")
    )
    # With dropout on, the factor would be another one for each input.
    with evaluating(model):
        linears = [(name, factor) for name, layer in layers for factor in _scales(layer, dtype)]
        draws = torch.Generator().manual_seed(SEED)
        embedded = [
            (name, factor)
            for name, layer in embedding.adapted(model)
            for factor in embedding.scales(layer, draws)
        ]
        return AdapterScale(tuple(LayerScale(*one) for one in linears + embedded))


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
        plain = base(inputs).detach()
    rows = inputs.detach().double()
    products = torch.stack(
        [(rows @ a.double().T @ b.double().T).detach().flatten() for a, b in adapters]
    )
    # What a young adapter adds is lost in the rounding of a base in half precision.
    times = magnification(float(plain.norm()), float(products.norm()))
    with enlarged([second.detach() for _, second in adapters], times), torch.enable_grad():
        whole = layer(inputs).detach()
    part = (whole.double() - plain.double()).flatten() / times
    finite = bool(torch.isfinite(products).all()) and bool(torch.isfinite(part).all())
    if not (finite and bool(products.any(dim=1).all())):
        return [math.nan] * len(adapters)  # of a product that is zero there is no factor
    return coefficients(products.cpu().numpy(), part.cpu().numpy())
