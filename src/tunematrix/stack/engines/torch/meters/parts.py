"""Norms and rotary positions of a freshly loaded model, beside their definitions in float64.

Checkpoints hold no frequencies, and a rounded norm is lost in what a quantizer rounds, so neither
weights nor logits show them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from tunematrix.evidence.events import LoadedParameter

ROWS, POSITIONS = 16, 128
SEED = 0
OTHER = 0.1
"""A norm that is further off each definition than this has another one, which isn't judged."""


def measure(model: nn.Module, dtype: torch.dtype) -> tuple[LoadedParameter, ...]:
    """Return the error of each norm, relative in norms, and the largest of each rotary embedding.

    Args:
        dtype: of what enters them.
    """
    draws = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        return tuple(_errors(model, dtype, draws))


def _errors(
    model: nn.Module, dtype: torch.dtype, draws: torch.Generator
) -> Iterator[LoadedParameter]:
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if "norm" in type(module).__name__.lower() and isinstance(weight, nn.Parameter):
            error = _norm_error(module, weight, dtype, draws)
            if not error > OTHER:
                yield LoadedParameter(name, error)
        elif isinstance(getattr(module, "inv_freq", None), torch.Tensor):
            yield LoadedParameter(name, _rotary_error(module, dtype))


def _norm_error(
    norm: nn.Module, weight: nn.Parameter, dtype: torch.dtype, draws: torch.Generator
) -> float:
    """Return how far a norm is from the nearest definition: RMSNorm, with 1 + w, or LayerNorm."""
    rows = (3 * torch.randn(ROWS, weight.shape[0], generator=draws)).to(weight.device, dtype)
    found, given, own = norm(rows).double(), rows.double(), weight.detach().double()
    small = float(getattr(norm, "variance_epsilon", getattr(norm, "eps", 0.0)))
    scaled = given * torch.rsqrt(given.pow(2).mean(-1, keepdim=True) + small)
    bias = getattr(norm, "bias", None)
    whole = nn.functional.layer_norm(
        given, own.shape, own, None if bias is None else bias.detach().double(), small
    )
    due = (own * scaled, (1 + own) * scaled, whole)
    return min(float((found - one).norm() / one.norm()) for one in due)


def _rotary_error(rotary: Any, dtype: torch.dtype) -> float:
    """Return the largest error of an angle's cosine or sine, and of the frequencies themselves."""
    frequencies = rotary.inv_freq.double()
    due = _frequencies(rotary, frequencies)
    error = float((frequencies / due - 1).abs().max())
    if "position_ids" not in inspect.signature(rotary.forward).parameters:
        return error
    places = torch.arange(POSITIONS, device=frequencies.device)[None]
    like = torch.zeros(1, device=frequencies.device, dtype=dtype)
    angles = places[0].double()[:, None] * due
    turned = torch.cat((angles, angles), dim=-1)
    scale = float(getattr(rotary, "attention_scaling", 1.0))
    pairs = zip(rotary(like, places), (scale * turned.cos(), scale * turned.sin()), strict=True)
    return max([error, *(float((one[0].double() - own).abs().max()) for one, own in pairs)])


def _frequencies(rotary: Any, found: torch.Tensor) -> torch.Tensor:
    """Return theta^(-2i/d) (arXiv 2104.09864); of scaled ones, what was found."""
    config = getattr(rotary, "config", None)
    given = getattr(config, "rope_parameters", None) or {}
    theta = given.get("rope_theta", getattr(config, "rope_theta", None))
    kind = given.get("rope_type", getattr(rotary, "rope_type", "default"))
    if kind != "default" or not isinstance(theta, int | float):
        return found
    steps = torch.arange(len(found), device=found.device, dtype=torch.float64)
    return torch.exp(-math.log(theta) * steps / len(found))
