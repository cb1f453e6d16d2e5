"""The gradient at a language model's logits, taken apart by positions: what counts, and how much.

For a cross-entropy it is at each position a weight times (softmax - one-hot of the target); with
label smoothing, the one-hot is spread (arXiv:1512.00567).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

AT_ONCE = (1 << 18, 1 << 20)
"""Elements of logits that are put into float32 at once, of small and of large ones: about ten times
so many numbers are in memory meanwhile."""
FITS = 0.03
"""Share of a position's gradient that may be something else, where it counts as a cross-entropy's:
gradients in bfloat16 are rounded by up to 0.4 % each."""
TELLS = 0.3
"""Share of a misfit that is left with smoothing, where a position tells that there is some."""
LEAST, AGREES = 0.05, 0.1
"""Share of the positions that have to tell it, and how far one may be off what most say."""
SLIGHT = 1e-3
"""Less smoothing than this is rounding."""


@dataclass
class Rows:
    """Positions that were looked at, one after the other.

    Attributes:
        counted: which have a gradient, (positions,).
        target, weight, misfit, nats: of each counted one.
    """

    counted: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor
    misfit: torch.Tensor
    nats: torch.Tensor


def rows_of(
    logits: torch.Tensor, gradient: torch.Tensor, places: torch.Tensor
) -> tuple[Rows, float]:
    """Take the gradient of each position apart; return that, and the smoothing that fits best."""
    scores = logits.reshape(-1, logits.shape[-1])
    slopes = gradient.reshape(-1, logits.shape[-1])
    step = at_once(logits)
    parts = [places[begin : begin + step] for begin in range(0, len(places), step)]

    def fitted(enough: float, smoothing: float | None = None) -> list[torch.Tensor]:
        each = [_part(scores, slopes, part, enough, smoothing) for part in parts]
        return [torch.cat(column) for column in zip(*each)]

    *found, smoothed, second = fitted(FITS)
    smoothing = _smoothing(found[3], smoothed, second)
    if smoothing:
        # Of several targets that fit, the best.
        found = fitted(0.0, smoothing)[:-2]
    return Rows(*found), smoothing


def _smoothing(misfit: torch.Tensor, smoothed: torch.Tensor, second: torch.Tensor) -> float:
    """Return the smoothing that the positions which tell it agree on; 0.0 where there is none.

    Where all tokens are about as likely, smoothing looks like less weight, and none can be told.
    """
    tells = (second < FITS) & (second < TELLS * misfit)
    if not bool(tells.any()) or float(tells.double().mean()) < LEAST:
        return 0.0
    # Those that would fit worst without it tell it best.
    found = smoothed[tells & (misfit >= misfit[tells].median())]
    middle = found.median()
    alike = float(((found - middle).abs() < AGREES * middle.abs()).double().mean())
    whole = float((second < FITS).double().mean())
    return float(middle) if min(alike, whole) > 0.5 and float(middle) > SLIGHT else 0.0


def at_once(logits: torch.Tensor) -> int:
    """Return how many positions are looked at together."""
    least, most = AT_ONCE
    return max(1, min(most, max(least, logits.numel() // 16)) // logits.shape[-1])


def _part(
    scores: torch.Tensor,
    slopes: torch.Tensor,
    places: torch.Tensor,
    enough: float,
    smoothing: float | None,
) -> tuple[Any, ...]:
    """Fit some positions; a target is looked for until it fits as well as `enough`."""
    g = slopes[places].float()
    counted = g.abs().sum(dim=1) > 0
    g, z = g[counted], scores[places[counted]].float()
    size = g.abs().amax(dim=1)
    g = g / size[:, None]
    nats_of = z.logsumexp(dim=1)
    p = (z - nats_of[:, None]).exp_()
    target = g.abs().argmax(dim=1)
    fit = _fit(g, p, target, smoothing)
    # With smoothing, a token that is likely and wrong may have the largest slope; and a target that
    # is as likely as it is to be has none.
    for other in (g.argmin(dim=1), p.argmax(dim=1)):
        odd = torch.minimum(fit[1], fit[3]) >= enough
        if bool(odd.any()):
            found = _fit(g[odd], p[odd], other[odd], smoothing)
            better = found[3] < fit[3][odd]
            target[odd] = torch.where(better, other[odd], target[odd])
            for column, new in zip(fit, found):
                column[odd] = torch.where(better, new, column[odd])
    weight, misfit, smoothed, second = fit
    nats = nats_of - z.gather(1, target[:, None])[:, 0]
    return counted, target, weight * size, misfit, nats, smoothed, second


def _fit(
    g: torch.Tensor, p: torch.Tensor, target: torch.Tensor, smoothing: float | None
) -> tuple[torch.Tensor, ...]:
    """Fit weight * (p - one-hot) to slopes, (positions, vocabulary).

    Args:
        smoothing: of the one-hot, if it is known.

    Returns:
        Weight, misfit, and, where it isn't known, the smoothing that fits best and the misfit with
        it, (positions,).
    """
    one = torch.zeros_like(p).scatter_(1, target[:, None], 1.0)
    v = one - 1.0 / p.shape[1]
    u = p - one + (smoothing or 0.0) * v
    uu, gu, gg = (u * u).sum(1), (g * u).sum(1), (g * g).sum(1).clamp(min=1e-38)
    weight = gu / uu.clamp(min=1e-30)
    misfit = ((g - weight[:, None] * u).square().sum(1) / gg).sqrt()
    if smoothing is not None:
        return weight, misfit, torch.full_like(weight, smoothing), misfit.clone()
    # With smoothing s there is a second part, weight * s times (one-hot - 1/vocabulary).
    vv, uv, gv = (v * v).sum(1), (u * v).sum(1), (g * v).sum(1)
    determinant = (uu * vv - uv * uv).clamp(min=1e-30)
    a, b = (gu * vv - gv * uv) / determinant, (gv * uu - gu * uv) / determinant
    rest = (g - a[:, None] * u - b[:, None] * v).square().sum(1)
    return weight, misfit, b / a, (rest / gg).sqrt()
