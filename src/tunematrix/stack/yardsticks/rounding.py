"""Plain rounding to a quantizer's format, by formulas of our own: the error that a layer must have.

Formats are data: `theory.rounding` in `configs/quantizer/*.yaml`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tunematrix.configuration.options import Rounding

Floats = NDArray[np.float32]

NF4 = np.array(
    [
        -1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0,
        0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0,
    ],
    dtype=np.float32,
)  # fmt: skip
"""The levels of 4-bit NormalFloat: Dettmers et al., QLoRA (arXiv 2305.14314), appendix E."""
CAST = 2**-8
"""What a cast to half precision may cost a group besides."""
TINY = 1e-30


def error(weight: Floats, rounding: Rounding | None) -> float:
    """Return the relative error of a weight, (out, in), that is rounded plainly; 0 for None.

    `rounding` has `code`: "range" (even levels from the least to the largest value), "absmax"
    (even levels on both sides of zero) or "nf4"; `bits`; and `group_size`, without which each
    output row is a group of its own.
    """
    if rounding is None:
        return 0.0
    groups, rounded = _rounded(weight, rounding)
    return relative(rounded - groups, groups)


def worst_group(stored: Floats, weight: Floats, rounding: Rounding) -> tuple[float, float]:
    """Return the error of the group of `stored` that is furthest off its plain rounding, and its.

    Both of the group's own norm. In a whole layer, one block that is scaled by its neighbour's
    scale is lost among all others.
    """
    groups, rounded = _rounded(weight, rounding)
    sizes = np.maximum(np.linalg.norm(groups, axis=1), np.float32(TINY))
    errors = np.linalg.norm(stored.reshape(groups.shape) - groups, axis=1) / sizes
    due = np.linalg.norm(rounded - groups, axis=1) / sizes
    # A nan is the worst of all, and numpy's argmax finds it.
    worst = int(np.argmax(errors / (due + CAST)))
    return float(errors[worst]), float(due[worst])


def _rounded(weight: Floats, rounding: Rounding) -> tuple[Floats, Floats]:
    """Return a weight's groups, (groups, elements), as they are and rounded plainly."""
    groups = weight.reshape(-1, rounding.group_size or weight.shape[1])
    return groups, CODES[rounding.code](groups, 2**rounding.bits)


def relative(difference: Floats, of: Floats) -> float:
    """Return one norm over the other; infinite where only the second is zero."""
    size, whole = float(np.linalg.norm(difference)), float(np.linalg.norm(of))
    return size / whole if whole else (0.0 if size == 0 else float("inf"))


def _range(groups: Floats, levels: int) -> Floats:
    low, high = groups.min(1, keepdims=True), groups.max(1, keepdims=True)
    step = _positive((high - low) / (levels - 1))
    return np.asarray(np.round((groups - low) / step) * step + low)


def _absmax(groups: Floats, levels: int) -> Floats:
    step = _positive(np.abs(groups).max(1, keepdims=True) / (levels // 2 - 1))
    return np.asarray(np.round(groups / step) * step)


def _nf4(groups: Floats, levels: int) -> Floats:
    top = _positive(np.abs(groups).max(1, keepdims=True))
    between = (NF4[1:] + NF4[:-1]) / 2
    return np.asarray(NF4[np.searchsorted(between, groups / top)] * top)


def _positive(step: Floats) -> Floats:
    """Keep a group of equal values from a division by zero."""
    return np.where(step > 0, step, np.float32(1))


CODES = {"range": _range, "absmax": _absmax, "nf4": _nf4}
