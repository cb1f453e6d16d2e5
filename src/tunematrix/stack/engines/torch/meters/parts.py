"""Norms and rotary positions of a freshly loaded model, beside their definitions in float64.

Checkpoints hold no frequencies, and a rounded norm is lost in what a quantizer rounds, so neither
weights nor logits show them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

from tunematrix.evidence.events import LoadedParameter
from tunematrix.stack.yardsticks import fineness

ROWS, POSITIONS = 64, 128
SEED = 0
OTHER = 0.1
"""A norm that is further off each definition than this has another one, which isn't judged."""


class PartErrors(NamedTuple):
    """How far norms and rotary embeddings are off.

    Attributes:
        parts: each norm, relative in norms, and the largest error of each rotary embedding.
        rows: each norm, by `fineness.as_a_whole`.
    """

    parts: tuple[LoadedParameter, ...]
    rows: tuple[LoadedParameter, ...]


def measure(model: nn.Module, dtype: torch.dtype) -> PartErrors:
    """Hold norms and rotary embeddings against their definitions.

    Args:
        dtype: of what enters them.
    """
    draws = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        norms = dict(_norms(model, dtype, draws))
        rotaries = tuple(_rotaries(model, dtype))
    parts = (*(LoadedParameter(name, error) for name, (error, _) in norms.items()), *rotaries)
    return PartErrors(
        parts, tuple(LoadedParameter(name, rows) for name, (_, rows) in norms.items())
    )


def _norms(
    model: nn.Module, dtype: torch.dtype, draws: torch.Generator
) -> Iterator[tuple[str, tuple[float, float]]]:
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if "norm" in type(module).__name__.lower() and isinstance(weight, nn.Parameter):
            errors = _norm_errors(module, weight, dtype, draws)
            if not errors[0] > OTHER:
                yield name, errors


def _rotaries(model: nn.Module, dtype: torch.dtype) -> Iterator[LoadedParameter]:
    for name, module in model.named_modules():
        if isinstance(getattr(module, "inv_freq", None), torch.Tensor):
            yield LoadedParameter(name, _rotary_error(module, dtype))


def _norm_errors(
    norm: nn.Module, weight: nn.Parameter, dtype: torch.dtype, draws: torch.Generator
) -> tuple[float, float]:
    """Return how far a norm is from the nearest definition, and how far its rows are as a whole.

    Definitions are RMSNorm, the same with 1 + w, and LayerNorm.
    """
    rows = (3 * torch.randn(ROWS, weight.shape[0], generator=draws)).to(weight.device, dtype)
    found, given, own = norm(rows).double(), rows.double(), weight.detach().double()
    small = float(getattr(norm, "variance_epsilon", getattr(norm, "eps", 0.0)))
    scaled = given * torch.rsqrt(given.pow(2).mean(-1, keepdim=True) + small)
    bias = getattr(norm, "bias", None)
    whole = nn.functional.layer_norm(
        given, own.shape, own, None if bias is None else bias.detach().double(), small
    )
    nearest = min((own * scaled, (1 + own) * scaled, whole), key=lambda due: _off(found, due))
    rows = fineness.as_a_whole(found.cpu().numpy(), nearest.cpu().numpy())
    return _off(found, nearest), rows


def _off(found: torch.Tensor, due: torch.Tensor) -> float:
    return float((found - due).norm() / due.norm())


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
