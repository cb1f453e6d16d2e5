from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from tunematrix.testing import assert_converged


@pytest.mark.parametrize(
    ("losses", "floor", "share"),
    [([5.0, 1.0], 0.0, 0.8), ([5.0, 9.0, 2.0], 1.0, 0.75), ([4.0, 2.0], 0.0, 0.5)],
)
def test_the_share_that_was_closed(losses: Sequence[float], floor: float, share: float) -> None:
    """It goes from the first loss to the last, over the floor; just enough is enough."""
    assert assert_converged(losses, floor=floor) == pytest.approx(share)


@pytest.mark.parametrize(
    ("losses", "floor", "text"),
    [
        ([5.0, 3.0], 0.0, "40.0% of the gap is closed, at least 50.0% was asked for"),
        ([5.0, 6.0], 0.0, "-20.0% of the gap"),
        ([5.0, math.nan, 1.0], 0.0, "loss 1 is nan; likely an overflow"),
        ([5.0, 1.0, math.inf], 0.0, "loss 2 is inf"),
        ([5.0, 0.3], 0.4, "which no honest loss does"),
        ([0.3, 0.2], 0.4, "leaves no gap"),
        ([5.0], 0.0, "1 losses show no course"),
    ],
)
def test_what_is_no_convergence(losses: Sequence[float], floor: float, text: str) -> None:
    """Each failure says what was measured, and the likely cause."""
    with pytest.raises(AssertionError, match=text):
        assert_converged(losses, floor=floor)
