"""Whether losses came down, as a share of the way to what is possible."""

from __future__ import annotations

import math
from collections.abc import Sequence


def assert_converged(losses: Sequence[float], *, floor: float = 0.0, least: float = 0.5) -> float:
    """Fail unless training closed its share of the gap between the first loss and the floor.

    Args:
        losses: of one run, or a loss before and one after; nats per token, or anything else that
            has the floor's unit.
        floor: the lowest loss that the data allows; `tiny_floor` knows it of a tiny dataset.
        least: the share of the gap that has to be closed.

    Returns:
        The share that was closed.

    Raises:
        AssertionError: it is less, or no figure to go by.
    """
    assert len(losses) >= 2, f"{len(losses)} losses show no course; give one before and one after"
    broken = [index for index, loss in enumerate(losses) if not math.isfinite(loss)]
    assert not broken, (
        f"loss {broken[0]} is {losses[broken[0]]}; likely an overflow in half precision, or a "
        "learning rate that is too high"
    )
    first, last = losses[0], losses[-1]
    assert first > floor, f"the first loss, {first:.4g}, leaves no gap to the floor of {floor:.4g}"
    share = (first - last) / (first - floor)
    course = f"the loss went from {first:.4g} to {last:.4g} over a floor of {floor:.4g}"
    assert share <= 1, f"{course}, which no honest loss does; likely labels that give it away"
    assert share >= least, (
        f"{course}: {share:.1%} of the gap is closed, at least {least:.1%} was asked for; likely "
        "too few steps, untrained parameters, wrong labels or another learning rate"
    )
    return share
