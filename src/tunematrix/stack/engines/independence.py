"""Whether the rows of an adapter's factor say different things."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def independence(factor: NDArray[np.float32]) -> float:
    """Return the least over the largest singular value of `factor`; 0 where a row is spare."""
    values = np.linalg.svd(factor, compute_uv=False)
    return float(values[-1] / values[0]) if values[0] else 0.0
