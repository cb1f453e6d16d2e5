"""Adapted embeddings beside LoRA's formula: y = W[t] + s (B A)[:, t] for a token t.

PEFT looks a token up in A, (rank, tokens), which starts at zero, and multiplies by B, (width,
rank).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from tunematrix.evidence.events import LayerFormula
from tunematrix.stack.engines.common import Floats
from tunematrix.stack.engines.torch.meters.weights import enlarged
from tunematrix.stack.yardsticks.independence import independence
from tunematrix.stack.yardsticks.magnifying import magnification
from tunematrix.stack.yardsticks.regression import coefficients

TOKENS = 64
FACTORS = ("lora_embedding_A", "lora_embedding_B")
UNIFORM = 3
"""A number spread evenly within ±1 has a third of the square of one with a deviation of 1."""


def adapted(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the embeddings that have an adapter, by their names."""
    for name, layer in model.named_modules():
        if getattr(layer, FACTORS[0], None):
            yield name, layer


def active_factors(layer: nn.Module) -> list[list[nn.Parameter]]:
    """Return A and B of each active adapter, the trained one first."""
    active: Sequence[str] = getattr(layer, "active_adapters", ())
    return [[getattr(layer, kind)[name] for kind in FACTORS] for name in active]


def start(layer: nn.Module) -> Floats:
    """Return the factor that isn't zero before training, as a linear layer's would be drawn.

    PEFT draws it, as Microsoft's LoRA does, with a standard deviation of 1.
    """
    second = active_factors(layer)[0][1]
    drawn: Floats = second.detach().float().T.cpu().numpy()
    return drawn / math.sqrt(UNIFORM * drawn.shape[1])


def formula(name: str, layer: nn.Module, scale: float, draws: torch.Generator) -> LayerFormula:
    """Hold an adapted embedding's output and gradients to the formula, for tokens drawn at random.

    Nothing is handed back below it, so it has no base's gradient.
    """
    base = layer.get_submodule("base_layer")
    adapters = active_factors(layer)
    tokens = _tokens(layer, draws)
    out = layer(tokens)
    above = torch.randn(out.shape, generator=draws).to(out.device, out.dtype)
    trained = [p for factors in adapters for p in factors if p.requires_grad]
    found = torch.autograd.grad(out, trained, above, allow_unused=True)
    due = base(tokens) + _times(base, tokens) * scale * sum(
        _product(factors, tokens) for factors in adapters
    )
    wanted = torch.autograd.grad(due, trained, above)
    errors = [_relative(one, other) for one, other in zip(found, wanted, strict=True)]
    second = adapters[0][1].detach().float().T.cpu().numpy()
    # A tensor's largest keeps a nan, which max may lose.
    worst = float(torch.tensor(errors).max())
    return LayerFormula(name, _relative(out, due), worst, independence(second), len(second))


def scales(layer: nn.Module, draws: torch.Generator) -> list[float]:
    """Return the factor of each active adapter's product in what leaves an embedding."""
    base = layer.get_submodule("base_layer")
    tokens = _tokens(layer, draws)
    adapters = active_factors(layer)
    plain, ratio = base(tokens).detach().cpu().double(), _times(base, tokens)
    columns = torch.stack(
        [(ratio * _product(one, tokens)).detach().cpu().double().flatten() for one in adapters]
    )
    # What a young adapter adds is lost in the rounding of a base in half precision.
    times = magnification(float(plain.norm()), float(columns.norm()))
    with enlarged([second.detach() for _, second in adapters], times):
        whole = layer(tokens).detach().cpu().double()
    part = (whole - plain).flatten() / times
    if not (bool(torch.isfinite(part).all()) and bool(columns.any(dim=1).all())):
        return [math.nan] * len(adapters)  # of a product that is zero there is no factor
    return coefficients(columns.numpy(), part.numpy())


def _tokens(layer: nn.Module, draws: torch.Generator) -> torch.Tensor:
    """Draw tokens that were trained, since of others the first factor is zero; else of all.

    Not the one for padding, which takes no gradient.
    """
    base = layer.get_submodule("base_layer")
    tokens = len(base.get_parameter("weight"))
    moved = torch.zeros(tokens, dtype=torch.bool)
    for first, _ in active_factors(layer):
        moved |= first.detach().cpu().any(dim=0)
    known = torch.arange(tokens)
    if (padding := getattr(base, "padding_idx", None)) is not None:
        moved[padding], known = False, known[known != padding]
    known = moved.nonzero().flatten() if bool(moved.any()) else known
    drawn = known[torch.randint(len(known), (TOKENS,), generator=draws)]
    return drawn.to(base.get_parameter("weight").device)


def _product(factors: Sequence[nn.Parameter], tokens: torch.Tensor) -> torch.Tensor:
    first, second = factors
    return first[:, tokens].T @ second.T


def _times(base: nn.Module, tokens: torch.Tensor) -> float:
    """Return by what embeddings multiply their weight, as some models' do."""
    weight = base.get_parameter("weight")[tokens].detach().float()
    out = base(tokens).detach().float()
    return float((out * weight).sum() / weight.square().sum())


def _relative(found: torch.Tensor | None, wanted: torch.Tensor) -> float:
    if found is None:
        return math.inf
    one, other = found.detach().float(), wanted.detach().float()
    error, size = float((one - other).norm()), float(other.norm())
    return error / size if size else (0.0 if error == 0 else math.inf)
