from __future__ import annotations

import math

import pytest

from tunematrix.stack.yardsticks.magnifying import magnification


@pytest.mark.parametrize(
    ("whole", "part", "times"),
    [(8.0, 1.0, 8), (1.0, 1e-3, 1024), (1.0, 5.0, 1), (1.0, 0.0, 1), (1.0, math.nan, 1)],
)
def test_a_part_is_brought_next_to_the_whole(whole: float, part: float, times: float) -> None:
    """By a power of two; one that isn't there, or is large already, stays as it is."""
    assert magnification(whole, part) == times
