"""How much of an adapter is in a weight that it was merged into: a regression, on any engine."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tunematrix.configuration.theory import Rounding
from tunematrix.evidence.events import AdapterShare
from tunematrix.stack.yardsticks import rounding as formats

Weights: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Stored:
    """How merged weights are stored: the quantizer's format, if any, and their values' dtype."""

    rounding: Rounding | None
    dtype: str

    def once(self, due: Weights, stored: Weights) -> Weights:
        """Return what storing a weight gives, (out, in); `stored` is what it has given."""
        if self.rounding is None:
            return formats.cast(due, self.dtype)
        wanted = formats.split(due, self.rounding)
        if self.rounding.ratio is not None:  # a quantizer that looks for the best levels
            own = formats.split(stored, self.rounding)
            return formats.on_own_levels(own, wanted).reshape(due.shape)
        return formats.cast(formats.plainly(wanted, self.rounding), self.dtype).reshape(due.shape)


def share(
    name: str, stored: Weights, plain: Weights, due: Weights, how: Stored | None = None
) -> Iterator[AdapterShare]:
    """Yield how many times an adapter's change is in a weight, if it changes it at all.

    What the change has in common with the weight itself is left out, since rounding to few levels
    shrinks a weight a little, and that would be taken for a part of the adapter.

    Args:
        name: of the layer. stored: its weight after merging; plain: before; due: what it must be,
            all (out, in).
        how: it is stored; None where nothing is to be said of what rounding it doesn't explain.
    """
    change = due - plain
    own = change - plain * np.float32(_dot(change, plain) / max(_dot(plain, plain), 1e-300))
    size = _dot(own, own)
    if size:
        error = stored - due
        spread = float(np.linalg.norm(error)) / math.sqrt(size * error.size)
        found = AdapterShare(name, _dot(stored, own) / size, spread)
        if how is not None:
            lost = how.once(due, stored) - stored
            spread = float(np.linalg.norm(lost * own)) / size
            found = found._replace(lost=_dot(lost, own) / size, lost_spread=spread)
        yield found


def _dot(one: Weights, other: Weights) -> float:
    return float(np.multiply(one, other).sum(dtype=np.float64))
