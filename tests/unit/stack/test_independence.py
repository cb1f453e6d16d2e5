from __future__ import annotations

import math

import numpy as np
import pytest

from tunematrix.stack.yardsticks.independence import independence, together


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_factor_that_is_not_finite(value: float) -> None:
    """It has no decomposition, and is a figure that no bound lets pass."""
    factor = np.eye(4, 8, dtype=np.float32)
    assert independence(factor) == 1
    broken = np.where(factor == 1, np.float32(value), factor)
    assert math.isnan(independence(broken))
    found = together([factor, broken])
    assert found is not None and math.isnan(found)
