"""How much of an adapter is in a weight that it was merged into: a regression, on any engine."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tunematrix.evidence.events import AdapterShare

Weights: TypeAlias = NDArray[np.float32]


def share(name: str, stored: Weights, plain: Weights, due: Weights) -> Iterator[AdapterShare]:
    """Yield how many times an adapter's change is in a weight, if it changes it at all.

    What the change has in common with the weight itself is left out, since rounding to few levels
    shrinks a weight a little, and that would be taken for a part of the adapter.

    Args:
        name: of the layer. stored: its weight after merging; plain: before; due: what it must be,
            all (out, in).
    """
    change = due - plain
    own = change - plain * np.float32(_dot(change, plain) / max(_dot(plain, plain), 1e-300))
    size = _dot(own, own)
    if size:
        error = stored - due
        spread = float(np.linalg.norm(error)) / math.sqrt(size * error.size)
        yield AdapterShare(name, _dot(stored, own) / size, spread)


def _dot(one: Weights, other: Weights) -> float:
    return float(np.multiply(one, other).sum(dtype=np.float64))
