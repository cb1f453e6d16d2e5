"""Each adapted layer beside its formula: LoRA's, or DoRA's with the norm that it holds constant.

LoRA: y = W x + s B A x (arXiv 2106.09685). DoRA: the same sum, each output multiplied by m over the
norm of its row of W + s B A, through which no gradient flows (arXiv 2402.09353, section 4.3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn

from tunematrix.evidence.events import AdapterFormula, LayerFormula
from tunematrix.stack.engines.common import Base
from tunematrix.stack.engines.torch.meters import embedding
from tunematrix.stack.engines.torch.meters.weights import stored_weight
from tunematrix.stack.engines.torch.scoring import evaluating
from tunematrix.stack.quantizers.common import TorchQuantizer
from tunematrix.stack.yardsticks.blame import accepted
from tunematrix.stack.yardsticks.independence import AdapterStart, independence

ROWS = 8
SEED = 0
FACTORS = ("lora_A", "lora_B", "lora_magnitude_vector")


def measure(
    model: nn.Module,
    base: Base,
    dtype: torch.dtype,
    scale: Callable[[str], float],
    quantizer: TorchQuantizer,
) -> AdapterFormula:
    """Compare outputs and gradients, dropout off, for inputs of `dtype`; `scale` is by layer.

    Draws from a generator of its own, so that what follows draws what it would have drawn.
    """
    draws = torch.Generator().manual_seed(SEED)
    with evaluating(model), torch.enable_grad():
        layers = _adapted(model, base)
        measured = tuple(
            LayerFormula(
                name,
                *_errors(layer, dtype, scale(name), draws),
                _base_gradient(layer, dtype, draws, quantizer),
            )
            for name, layer in layers
        )
        embedded = tuple(
            embedding.formula(name, layer, scale(name), draws)
            for name, layer in embedding.adapted(model)
        )
    return AdapterFormula(measured + embedded)


def start(model: nn.Module, base: Base) -> AdapterStart:
    """Measure the first factors of all adapters."""
    linears = (
        active_factors(layer)[0][0].detach().float().cpu().numpy()
        for _, layer in _adapted(model, base)
    )
    return AdapterStart.of(
        [*linears, *(embedding.start(layer) for _, layer in embedding.adapted(model))]
    )


def _adapted(model: nn.Module, base: Base) -> Iterator[tuple[str, nn.Module]]:
    for name, layer in model.named_modules():
        if name.endswith(base.linears) and hasattr(layer, "base_layer"):
            yield name, layer


def _errors(
    layer: nn.Module, dtype: torch.dtype, scale: float, draws: torch.Generator
) -> tuple[float, float, float, int]:
    """Return the errors of output and worst gradient; independence and rank of the first factor."""
    adapters = active_factors(layer)
    first, second = adapters[0][:2]
    rows = torch.randn(ROWS, first.shape[1], generator=draws).to(first.device, dtype)
    above = torch.randn(ROWS, second.shape[0], generator=draws).to(first.device, dtype)
    trained = (p for factors in adapters for p in factors if p.requires_grad)
    leaves = (rows.requires_grad_(), *trained)
    rows_of_first = first.detach().float().cpu().numpy()
    apart = independence(rows_of_first), len(rows_of_first)
    if (out := accepted(layer, rows)) is None:
        return math.inf, math.inf, *apart
    found = torch.autograd.grad(out, leaves, above.to(out.dtype), allow_unused=True)
    due = _formula(layer.get_submodule("base_layer"), rows, adapters, scale)
    wanted = torch.autograd.grad(due, leaves, above.to(due.dtype))
    errors = (_relative(one, other) for one, other in zip(found, wanted, strict=True))
    # A tensor's largest keeps a nan, which max may lose.
    worst = float(torch.tensor(list(errors)).max())
    return _relative(out, due), worst, *apart


def _base_gradient(
    layer: nn.Module, dtype: torch.dtype, draws: torch.Generator, quantizer: TorchQuantizer
) -> float:
    """Return how far the gradient of a base's input is from that of the weight that it stores.

    The adapters of all layers below learn by it, and it has a kernel of its own.
    """
    base, (first, second, *_) = layer.get_submodule("base_layer"), active_factors(layer)[0]
    sizes = first.shape[1], second.shape[0]
    weight = stored_weight(base, quantizer, math.prod(sizes))
    rows, above = (torch.randn(ROWS, size, generator=draws) for size in sizes)
    entering = rows.to(weight.device, dtype).requires_grad_()
    # Some have one kernel to train by, and another for all else.
    base.train()
    try:
        if (out := accepted(base, entering)) is None:
            return math.inf
        given = above.to(out.device, out.dtype)
        (found,) = torch.autograd.grad(out, entering, given)
    finally:
        base.eval()
    return _relative(found, given.float() @ weight)


def active_factors(layer: nn.Module) -> list[list[nn.Parameter]]:
    """Return A, B (and a magnitude) of each active adapter on a layer, the trained one first."""
    # A layer of our own has one without a name.
    names = [f"{name}." for name in getattr(layer, "active_adapters", ())] or [""]
    named = list(layer.named_parameters())
    return [
        [p for kind in FACTORS for name, p in named if f"{name}.".startswith(f"{kind}.{own}")]
        for own in names
    ]


def _formula(
    base: nn.Module, rows: torch.Tensor, adapters: Sequence[list[nn.Parameter]], scale: float
) -> torch.Tensor:
    whole: torch.Tensor = base(rows)
    # Each adds to the base what it would change there alone, DoRA's norm included.
    return whole + sum(_change(base, whole, rows, one, scale) for one in adapters)


def _change(
    base: nn.Module, whole: torch.Tensor, rows: torch.Tensor, own: list[nn.Parameter], scale: float
) -> torch.Tensor:
    """Return what one adapter adds to its base's output."""
    first, second, *magnitude = own
    low: torch.Tensor = scale * (rows.to(first.dtype) @ first.T @ second.T)
    if not magnitude:
        return low
    bias = getattr(base, "bias", None)
    fixed = 0 if bias is None else bias
    # Without a gradient to pass on, bitsandbytes repacks its weights, and its backward pass errs.
    unit = torch.eye(rows.shape[1], device=rows.device, dtype=rows.dtype, requires_grad=True)
    weight = base(unit).detach() - fixed
    norm = torch.linalg.norm(weight.T.float() + scale * (second @ first).float(), dim=1).detach()
    return (whole - fixed + low) * (magnitude[0] / norm) - (whole - fixed)


def _relative(found: torch.Tensor | None, wanted: torch.Tensor) -> float:
    if found is None:
        return float("inf")
    one, other = found.detach().float(), wanted.detach().float()
    return float((one - other).norm() / other.norm())
