"""How adapters' first factors start: how far their rows are apart, and how wide they are drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


def independence(factor: NDArray[np.float32]) -> float:
    """Return the least over the largest singular value of `factor`; 0 where a row is spare.

    It is nan where the factor has a nan or an infinity, which no decomposition takes.
    """
    if not np.isfinite(factor).all():
        return math.nan
    values = np.linalg.svd(factor, compute_uv=False)
    return float(values[-1] / values[0]) if values[0] else 0.0


def together(factors: Iterable[NDArray[np.float32]]) -> float | None:
    """Return the least independence of factors of one width, (rows, width); None without two.

    Of each, as many rows are taken as leave room for all of them to be independent.
    """
    by_width: dict[int, list[NDArray[np.float32]]] = {}
    for factor in factors:
        by_width.setdefault(factor.shape[1], []).append(factor)
    found = [
        independence(np.concatenate([one[: max(1, room // len(alike))] for one in alike[:room]]))
        for width, alike in by_width.items()
        if len(alike) > 1 and (room := width // 2) > 1
    ]
    # An array's smallest keeps a nan, Python's may lose it.
    return float(np.min(found)) if found else None


@dataclass(frozen=True)
class AdapterStart:
    """First factors before training.

    Attributes:
        apart: as `together` has it; width: as `width`; numbers: in all of them.
    """

    apart: float | None
    width: float | None
    numbers: int

    @classmethod
    def of(cls, factors: Iterable[NDArray[np.float32]]) -> AdapterStart:
        """Measure the first factors of all adapters, each (rows, width)."""
        found = list(factors)
        return cls(together(found), width(found), sum(one.size for one in found))


def width(factors: Sequence[NDArray[np.float32]]) -> float | None:
    """Return the root mean square of all factors, (rows, width), over that which LoRA draws.

    It draws each number evenly between -1/sqrt(width) and 1/sqrt(width), as a linear layer's
    (https://github.com/microsoft/LoRA); None without a factor.
    """
    numbers = sum(factor.size for factor in factors)
    squares = sum(3 * factor.shape[1] * float(np.square(factor).sum()) for factor in factors)
    return math.sqrt(squares / numbers) if numbers else None
