"""The scales that groups of quantized weights are really stored with, beside those they must have.

They are read off the stored weights themselves, so any library's layers can be judged. A scale that
is a few per cent off is lost in what rounding costs, but shows in the space between two levels.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tunematrix.configuration.theory import Rounding
from tunematrix.evidence.events import GroupScales
from tunematrix.stack.yardsticks import rounding as formats
from tunematrix.stack.yardsticks.rounding import Floats

FEW_BITS = 4
"""Up to which most levels of a group are used, so that the space between them can be seen."""


def measure(name: str, stored: Floats, weight: Floats, rounding: Rounding) -> GroupScales:
    """Say how far the scales of a layer's groups are off, and the ends of their ranges.

    All nan where a stored weight is no number. Groups of equal weights have no scale.

    Args:
        name: of the layer.
        stored: what it stands for; weight: what was rounded, both (out, in).
    """
    groups = formats.split(weight, rounding)
    kept = stored.reshape(groups.shape)
    if not np.isfinite(kept).all():
        return GroupScales(name, math.nan, math.nan, math.nan, 0, math.nan)
    uneven = groups.max(1) > groups.min(1)
    if not uneven.any():
        return GroupScales(name, 0.0, 0.0)
    groups, kept = groups[uneven], kept[uneven]
    off = _deviations(groups, kept, rounding)
    return GroupScales(
        name,
        worst=float(off[np.argmax(np.abs(off))]),
        mean=float(off.mean()),
        spread=float(off.std()),
        groups=len(off),
        ends=_ends(groups, kept, rounding),
    )


def _deviations(groups: Floats, kept: Floats, rounding: Rounding) -> NDArray[np.float64]:
    """Return how far each group's scale is off, relative and signed."""
    if rounding.code != "nf4" and rounding.bits <= FEW_BITS:
        off = _off(kept, formats.steps(groups, rounding))
        if rounding.code == "edge":
            other = _off(kept, formats.tied_steps(groups, rounding))
            off = np.where(np.abs(other) < np.abs(off), other, off)
    else:
        own, plain = (_reach(one, rounding) for one in (kept, formats.plainly(groups, rounding)))
        off = own / np.maximum(plain, formats.TINY) - 1
    return np.asarray(off, np.float64)


def _ends(groups: Floats, kept: Floats, rounding: Rounding) -> float:
    """Return how far the ends of a group's range are from what they are stored as, in steps.

    On average over all groups; 0 where a format has no level at either end, or looks for better
    ones.
    """
    if rounding.code != "range" or rounding.ratio is not None:
        return 0.0
    rows, step = np.arange(len(groups)), formats.steps(groups, rounding)[:, 0]
    ends = [np.abs(kept - groups)[rows, at] for at in (groups.argmin(1), groups.argmax(1))]
    return float((np.maximum(*ends) / step).mean())


def _off(kept: Floats, steps: Floats) -> NDArray[np.float64]:
    """Return by how much the space between two levels, (groups,), is more than it should be.

    From the lowest value up: each is a whole number of spaces above it, and the further up it is,
    the better it says how large one is.
    """
    values = np.sort(kept, axis=1).astype(np.float64)
    due = steps[:, 0].astype(np.float64)
    found = due.copy()
    for above in (values[:, 1:] - values[:, :1]).T:
        places = np.round(above / found)
        found = np.where(places > 0, above / np.maximum(places, 1), found)
    return found / due - 1


def _reach(groups: Floats, rounding: Rounding) -> NDArray[np.float64]:
    """Return what a group's scale is taken from: its largest magnitude, or its whole range."""
    if rounding.code in ("range", "edge"):
        return (groups.max(1) - groups.min(1)).astype(np.float64)
    return np.abs(groups).max(1).astype(np.float64)
