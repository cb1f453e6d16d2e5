"""How a small part of a sum is made large enough to be measured beside the rest."""

from __future__ import annotations

import math


def magnification(whole: float, part: float) -> float:
    """Return the power of two, 1 or more, that brings `part` next to `whole` in size.

    Multiplying by it rounds nothing. It is 1 where either isn't a positive number.
    """
    if not (0 < part < math.inf and 0 < whole < math.inf):
        return 1.0
    return max(1.0, 2.0 ** round(math.log2(whole / part)))
