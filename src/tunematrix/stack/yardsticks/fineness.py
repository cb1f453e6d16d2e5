"""How many bits numbers really need: values that were rounded once need fewer than their dtype has.

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
