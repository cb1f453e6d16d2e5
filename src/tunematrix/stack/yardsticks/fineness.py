"""How many bits numbers really need, and how finely they were computed.

Values that were rounded once need fewer bits than their dtype has.

A random float32 needs all 24 bits of its significand, or one less with odds of one half, and so on;
of a few dozen together none needs 20 with odds of less than one in a billion.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIGNIFICAND = 53
DISTINCT = 4
"""Values that are fewer than these are constants, such as a scale of 1."""


def bits(values: NDArray[np.floating]) -> int | None:
    """Return the bits of the longest significand among values; None where they are constants."""
    finite = np.unique(values[np.isfinite(values) & (values != 0)].astype(np.float64))
    if finite.size < DISTINCT:
        return None
    significands, _ = np.frexp(np.abs(finite))
    whole = (significands * 2.0**SIGNIFICAND).astype(np.int64)
    # The lowest bit that is set, in all of them together.
    together = int(np.bitwise_or.reduce(whole))
    return SIGNIFICAND - ((together & -together).bit_length() - 1)


def as_a_whole(found: NDArray[np.floating], due: NDArray[np.floating]) -> float:
    """Return how far whole rows are too large or small, as the rounding of single values is.

    Where each value is rounded by itself, the errors of a row cancel. A factor of the row that was
    rounded, such as the root in a norm, leaves all of it too large or too small at once. 1e-3 means
    that rows are off as a whole as far as values that are each rounded by 1e-3 would leave them.

    Args:
        found: what was computed; due: what should have been, both (rows, values).
    """
    size = (due**2).sum(-1)
    whole = (found * due).sum(-1) / size - 1
    by_value = (due**4).sum(-1) / size**2
    return float(np.sqrt((whole**2).mean() / by_value.mean()))
