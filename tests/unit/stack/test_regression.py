from __future__ import annotations

import numpy as np
import pytest

from tunematrix.stack.yardsticks.regression import coefficients

RANDOM = np.random.default_rng(0)
PARTS = RANDOM.standard_normal((2, 8 * 24))
WHOLE = 2.0 * PARTS[0] - 0.5 * PARTS[1] + 1e-7 * RANDOM.standard_normal(8 * 24)


def test_each_part_has_its_factor() -> None:
    """Of parts that aren't orthogonal, and beside the rounding of float32."""
    assert coefficients(PARTS, WHOLE) == pytest.approx([2.0, -0.5], abs=1e-7)


def test_what_differs_in_its_last_bits_has_the_same_factors() -> None:
    """Two honest runs of one cell would differ otherwise, as if something had been done to one."""
    towards = RANDOM.choice([-np.inf, np.inf], (50, *WHOLE.shape))
    found = {tuple(coefficients(PARTS, np.nextafter(WHOLE, to))) for to in towards}
    assert found == {tuple(coefficients(PARTS, WHOLE))}
