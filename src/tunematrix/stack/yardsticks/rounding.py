"""Plain rounding to a quantizer's format, by formulas of our own: the error that a layer must have.

Formats are data: `theory.rounding` in `configs/quantizer/*.yaml`. Its `code` says where a group's
levels are: "range", even from the least to the largest value; "edge", the same, moved so that zero
is a level and the end further from it stays; "absmax", even on both sides of zero; "halves", the
same with one level more below; "nf4". Without `group_size`, each output row is a group.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tunematrix.configuration.theory import Rounding

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
TIE = 0.1
"""Steps from the middle between two levels, within which casts to half precision decide."""


def error(weight: Floats, rounding: Rounding | None) -> float:
    """Return the relative error of a weight, (out, in), that is rounded plainly; 0 for None."""
    if rounding is None:
        return 0.0
    groups = split(weight, rounding)
    return relative(plainly(groups, rounding) - groups, groups)


def worst_group(stored: Floats, weight: Floats, rounding: Rounding) -> tuple[float, float]:
    """Return the error of the group of `stored` that is furthest off its plain rounding, and its.

    Both of the group's own norm. In a whole layer, one block that is scaled by its neighbour's
    scale is lost among all others.
    """
    groups = split(weight, rounding)
    sizes = np.maximum(np.linalg.norm(groups, axis=1), np.float32(TINY))
    errors = np.linalg.norm(stored.reshape(groups.shape) - groups, axis=1) / sizes
    due = np.linalg.norm(plainly(groups, rounding) - groups, axis=1) / sizes
    # A nan is the worst of all, and numpy's argmax finds it.
    worst = int(np.argmax(errors / (due + CAST)))
    return float(errors[worst]), float(due[worst])


def split(weight: Floats, rounding: Rounding) -> Floats:
    """Return a weight's groups, (groups, elements)."""
    columns = weight.shape[1]
    size = rounding.group_size or columns
    return weight.reshape(-1, min(size, columns) if rounding.within_rows else size)


def plainly(groups: Floats, rounding: Rounding) -> Floats:
    """Return groups, (groups, elements), as they are stored by plain rounding."""
    step, levels = steps(groups, rounding), 2**rounding.bits
    if rounding.code == "nf4":
        between = (NF4[1:] + NF4[:-1]) / 2
        return np.asarray(NF4[np.searchsorted(between, groups / step)] * step)
    if rounding.code == "range":
        low = groups.min(1, keepdims=True)
        return np.asarray(np.round((groups - low) / step) * step + low)
    if rounding.code == "edge":
        edge = _edge(groups)
        places = np.clip(np.round((groups - edge) / step * -np.sign(edge)), 0, levels - 1)
        return np.asarray(edge - np.sign(edge) * places * step)
    if rounding.code == "absmax":
        return np.asarray(np.round(groups / step) * step)
    return np.asarray(np.clip(np.round(groups / step), -levels // 2, levels // 2 - 1) * step)


def steps(groups: Floats, rounding: Rounding) -> Floats:
    """Return what lies between two levels of each group, (groups, 1); of nf4, the largest level."""
    levels = 2**rounding.bits
    if rounding.code in ("range", "edge"):
        found = (groups.max(1, keepdims=True) - groups.min(1, keepdims=True)) / (levels - 1)
        if rounding.code == "edge":
            places = _places(groups, found)
            found = _with_zero(groups, found, np.round(places))
    else:
        reach = {"nf4": 1.0, "absmax": levels // 2 - 1, "halves": (levels - 1) / 2}[rounding.code]
        found = np.abs(groups).max(1, keepdims=True) / np.float32(reach)
    return _positive(found)


def tied_steps(groups: Floats, rounding: Rounding) -> Floats:
    """Return the steps that code "edge" may take as well, where a cast decides; else the same."""
    low, high = groups.min(1, keepdims=True), groups.max(1, keepdims=True)
    even = _positive((high - low) / (2**rounding.bits - 1))
    places = _places(groups, even)
    other = np.where(places > np.round(places), np.ceil(places), np.floor(places))
    is_tie = np.abs(places - np.floor(places) - 0.5) < TIE
    return np.where(is_tie, _with_zero(groups, even, other), steps(groups, rounding))


def _places(groups: Floats, step: Floats) -> Floats:
    """Return how many steps zero is away from the end of the range that is further from it."""
    return np.asarray(np.abs(_edge(groups)) / _positive(step))


def _with_zero(groups: Floats, step: Floats, places: Floats) -> Floats:
    return np.where(places > 0, np.abs(_edge(groups)) / np.maximum(places, 1), step)


def on_own_levels(stored: Floats, due: Floats) -> Floats:
    """Return, for each of `due`, the nearest of its own stored value and the levels next to that.

    Levels are those that stored values of its group are on, (groups, elements): so nothing has to
    be known of where a quantizer looks for the best ones.
    """
    order = np.argsort(stored, axis=1)
    levels, wanted = (np.take_along_axis(one, order, axis=1) for one in (stored, due))
    nearest = levels.copy()
    for turn in (1, -1):
        # The next level above, then the next below.
        along, next_one = levels[:, ::turn], np.full_like(levels, np.inf * turn)
        for at in range(levels.shape[1] - 2, -1, -1):
            is_last = along[:, at + 1] == along[:, at]
            next_one[:, at] = np.where(is_last, next_one[:, at + 1], along[:, at + 1])
        found = next_one[:, ::turn]
        nearest = np.where(np.abs(wanted - found) < np.abs(wanted - nearest), found, nearest)
    given = np.empty_like(nearest)
    np.put_along_axis(given, order, nearest, axis=1)
    return given


def cast(values: Floats, dtype: str) -> Floats:
    """Return values as a dtype holds them, ties to even: float32, float16 or bfloat16."""
    if dtype == "float16":
        return values.astype(np.float16).astype(np.float32)
    if dtype == "bfloat16":
        bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
        even = (bits >> 16) & 1
        return ((bits + 0x7FFF + even) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    return values


def relative(difference: Floats, of: Floats) -> float:
    """Return one norm over the other; infinite where only the second is zero."""
    size, whole = float(np.linalg.norm(difference)), float(np.linalg.norm(of))
    return size / whole if whole else (0.0 if size == 0 else float("inf"))


def _edge(groups: Floats) -> Floats:
    """Return the end of each group's range that is further from zero, (groups, 1)."""
    low, high = groups.min(1, keepdims=True), groups.max(1, keepdims=True)
    return np.where(np.abs(low) > np.abs(high), low, high)


def _positive(step: Floats) -> Floats:
    """Keep a group of equal values from a division by zero."""
    return np.where(step > 0, step, np.float32(1))
