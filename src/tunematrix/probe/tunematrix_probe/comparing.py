"""Gradients that reached an optimizer, beside our own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from . import sampling
from .records import SeenGradient
from .repeating import Pass
from .state import OptimizerState

TOLERANCES = {torch.float64: 1e-6, torch.float32: 2e-3, torch.bfloat16: 8e-2, torch.float16: 3e-2}
"""What computing in a dtype may change of a gradient, as a share of its largest value."""
NESTED = 6
"""Outputs that may come from one another: each takes a part of a backward pass."""
SMALL = 1e-3
"""A tensor whose largest gradient is a smaller share of the step's largest than this is held to
that share."""
SHOWN = 512
"""Elements that are told for the mean over processes."""


@dataclass
class Compared:
    """What is compared as an optimizer steps.

    Attributes:
        own: parameter and elements of our own gradient of it, by its id; strides: of these, every
            so many-th stands in it; last: some elements of the last pass's
            alone, where there were several; names: of parameters, by id.
        passes, unused, tolerance: see `SeenGradient`.
    """

    one: OptimizerState
    own: dict[int, tuple[Any, torch.Tensor]]
    strides: dict[int, int]
    last: dict[int, torch.Tensor]
    names: dict[int, str]
    passes: int
    unused: int
    tolerance: float

    @torch.no_grad()
    def record(self, due: float, scaling: float) -> SeenGradient:
        """Compare; `due` and `scaling` as in `Gradients.compare`."""
        own = self.own
        got = {
            key: sampling.flat(p.grad)[:: self.strides[key]]
            if p.grad is not None
            else torch.zeros_like(mine)
            for key, (p, mine) in own.items()
        }
        trained = sum(p.numel() for p in self.one.parameters() if p.requires_grad)
        elements = sum(mine.numel() for _, mine in own.values())
        product = sum(_dot(got[key], mine) for key, (_, mine) in own.items())
        square = sum(_dot(mine, mine) for _, mine in own.values())
        scale = product / square if square else 1.0
        error, worst = _worst(got, own, scale)
        return SeenGradient(
            optimizer=self.one.number,
            step=self.one.step,
            tensors=len(own),
            elements=elements,
            sampled=elements < trained,
            passes=self.passes,
            unused=self.unused,
            scale=scale * scaling,
            due=due,
            error=error,
            worst=self.names.get(worst, ""),
            last_error=self._last_error(got),
            tolerance=self.tolerance,
            own=_shown([mine for _, mine in own.values()]),
            reached=_shown([got[key] for key in own]),
        )

    def _last_error(self, got: dict[int, torch.Tensor]) -> float | None:
        """Return how far what arrived is from what the last pass alone came to."""
        pairs = [
            (sampling.flat(got[key])[:: max(1, got[key].numel() // 64)], last)
            for key, last in self.last.items()
            if key in got
        ]
        if not pairs:
            return None
        reached = torch.cat(sampling.together([a for a, _ in pairs]))
        last = torch.cat(sampling.together([b for _, b in pairs]))
        square = float((last * last).sum())
        scale = float((reached * last).sum()) / square if square else 0.0
        size = float(reached.abs().max())
        return float((reached - scale * last).abs().max()) / size if size else None


def from_outside(
    one: Pass, outputs: dict[str, torch.Tensor], asked: list[str]
) -> dict[str, torch.Tensor] | None:
    """Return what arrived at each output from outside of the model; None if that takes too long.

    A loss among the outputs comes from the logits among them: what arrives at these comes through
    it, and would count twice.
    """
    found: dict[str, torch.Tensor] = {}
    nested = 0
    # The later an output was made, the higher its number; only later ones come from it.
    for path in sorted(asked, key=lambda p: -outputs[p].grad_fn._sequence_nr()):
        gradient = one.arrived[path]
        if found:
            (inside,) = torch.autograd.grad(
                [outputs[p] for p in found],
                [outputs[path]],
                list(found.values()),
                allow_unused=True,
                retain_graph=True,
            )
            if inside is not None:
                nested += 1
                if nested > NESTED:
                    return None
                rest = gradient - inside
                largest = gradient.abs().max() * TOLERANCES[gradient.dtype]
                if bool(rest.abs().max() <= largest):
                    continue
                gradient = rest
        found[path] = gradient
    return found


def _dot(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a.reshape(-1), b.reshape(-1)
    if a.dtype != torch.float32 or b.dtype != torch.float32:
        a, b = a.float(), b.float()
    return float(torch.dot(a, b.to(a.device)))


def _worst(got: Any, own: Any, scale: float) -> tuple[float, int]:
    """Return the largest difference of a tensor as a share, and the tensor's id."""
    keys = list(own)
    sizes, errors = [], []
    for key in keys:
        mine = own[key][1]
        due = mine * scale
        sizes.append(torch.maximum(due.abs().max(), got[key].abs().max()).double())
        errors.append((got[key].to(due.dtype) - due).abs().max().double())
    if not keys:
        return 0.0, 0
    together = torch.stack([torch.stack(sizes), torch.stack(errors)]).cpu()
    least = float(together[0].max()) * SMALL
    shares = together[1] / together[0].clamp(min=max(least, 1e-38))
    place = int(shares.argmax())
    return float(shares[place]), keys[place]


def _shown(tensors: list[torch.Tensor]) -> tuple[float, ...]:
    each = max(1, SHOWN // max(len(tensors), 1))
    parts = []
    for tensor in tensors[:SHOWN]:
        values = tensor.reshape(-1)
        parts.append(values[:: max(1, values.numel() // each)][:each])
    return tuple(float(f"{v:.6g}") for part in sampling.together(parts) for v in part.tolist())
