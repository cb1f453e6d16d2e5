"""The factor with which an adapter's product really enters a layer's output."""

from __future__ import annotations

import torch
from torch import nn

from tunematrix.evidence.events import AdapterScale
from tunematrix.stack.engines.common import Base
from tunematrix.stack.engines.torch.methods.common import adapted_linears
from tunematrix.stack.engines.torch.scoring import evaluating

ROWS = 8


def measure(model: nn.Module, base: Base, dtype: torch.dtype) -> AdapterScale:
    """Regress each layer's adapter part on B A x, for inputs of `dtype` drawn at random."""
    layers = [layer for layer in adapted_linears(model, base) if hasattr(layer, "base_layer")]
    # With dropout on, the factor would be another one for each input.
    with evaluating(model):
        factors = torch.tensor([_factor(layer, dtype) for layer in layers], dtype=torch.float64)
    # A tensor's extremes keep the nan of a layer whose product is zero.
    return AdapterScale((float(factors.min()), float(factors.max())))


def _factor(layer: nn.Module, dtype: torch.dtype) -> float:
    first, second = _weights(layer)
    inputs = torch.randn(ROWS, first.shape[1], device=first.device, dtype=dtype)
    base = layer.get_submodule("base_layer")
    with torch.enable_grad():
        # Without a gradient some libraries repack their weights at this pass.
        inputs.requires_grad_()
        part = (layer(inputs) - base(inputs)).detach().double()
    product = (inputs.detach().double() @ first.double().T) @ second.double().T
    return float((part * product).sum() / (product * product).sum())


def _weights(layer: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    found = {name: p.detach() for name, p in layer.named_parameters() if "lora_" in name}
    first = next(p for name, p in found.items() if "lora_A" in name)
    second = next(p for name, p in found.items() if "lora_B" in name)
    return first, second
