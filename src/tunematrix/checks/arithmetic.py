"""Arithmetic for the checks: measured figures → errors that a nan can't slip through."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

LOGGED_DECIMALS = 4
LOGGED_STEP = 1e-4
"""What the last of them counts."""


def relative(measured: float, wanted: float) -> float:
    """Return the relative error of `measured`; nan where `wanted` is 0 and vouches for nothing."""
    return abs(measured - wanted) / abs(wanted) if wanted else math.nan


def logged_error(logged: float, wanted: float) -> float:
    """Return the relative error of a logged loss, beyond what the log itself has rounded off.

    Trainers before transformers 5 log four decimals.
    """
    rounded = LOGGED_STEP / 2 if logged == round(logged, LOGGED_DECIMALS) else 0.0
    excess = abs(logged - wanted) - rounded
    return relative(wanted + max(excess, 0.0), wanted) if not math.isnan(excess) else math.nan


def severity(error: float) -> tuple[bool, float]:
    """Sort key under which nan is the worst of all; `max` by itself may lose it."""
    return math.isnan(error), error


def tolerance(table: Mapping[str, float], dtypes: Iterable[str]) -> float:
    """Return the tolerance of the coarsest of `dtypes`; that of unknown ones is 0."""
    return max((table.get(dtype, 0.0) for dtype in dtypes), default=0.0)
