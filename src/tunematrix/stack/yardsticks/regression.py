"""How often each of several parts goes into a sum of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DIGITS = 10
"""That two runs of one cell agree on: LAPACK rounds the last ones by where its memory happens to
lie, and a difference between two runs passes for something that was done to one of them. Beyond
the seven of float32 they say nothing."""


def coefficients(parts: NDArray[np.float64], whole: NDArray[np.float64]) -> list[float]:
    """Return the factor of each part, by least squares.

    Args:
        parts: none of them zero, (parts, elements); whole: what they were added up to, (elements,).
    """
    found, *_ = np.linalg.lstsq(parts.T, whole, rcond=None)
    return [float(f"{factor:.{DIGITS}g}") for factor in found]
