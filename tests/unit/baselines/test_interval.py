from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from tunematrix.baselines.interval import (
    Interval,
    margin_interval,
    tolerance_factor,
    tolerance_interval,
    widened,
)


@pytest.mark.parametrize(
    ("count", "coverage", "exact"),
    [
        (10, 0.999, 5.6401),
        (20, 0.99, 3.6210),
        (20, 0.999, 4.6164),
        (30, 0.999, 4.2808),
        (50, 0.999, 3.9951),
        (100, 0.999, 3.7496),
    ],
)
def test_the_factor_is_nearly_exact(count: int, coverage: float, exact: float) -> None:
    """Beside factors that were integrated numerically, for a confidence of 95 %."""
    tolerated = 0.0012 if count >= 20 else 0.01
    assert tolerance_factor(count, coverage, 0.95) == pytest.approx(exact, rel=tolerated)


@pytest.mark.parametrize(
    ("draw", "most"),
    [
        (lambda chance: chance.gauss(1, 0.05), 0.001),
        (lambda chance: chance.lognormvariate(0, 0.3), 0.001),
        (lambda chance: chance.uniform(0.9, 1.1), 0.0001),
        (lambda chance: chance.gammavariate(4, 1), 0.003),
    ],
)
def test_false_alarms_are_as_rare_as_stated(
    draw: Callable[[random.Random], float], most: float
) -> None:
    """Of further runs like those recorded; docs/baselines.md has the table with heavy tails."""
    chance = random.Random(7)
    outside = 0
    for _ in range(300):
        interval = tolerance_interval([draw(chance) for _ in range(20)], 0.999, 0.95)
        outside += sum(draw(chance) not in interval for _ in range(100))
    assert outside / 30_000 <= most


def test_an_interval_holds_what_was_seen() -> None:
    """An outlier among many, too; and figures of either sign, and none that is no number."""
    figures = [1.0] * 99 + [50.0]
    assert all(figure in tolerance_interval(figures, 0.9, 0.95) for figure in figures)
    assert 0.0 in tolerance_interval([-1.0, 1.0, 0.5], 0.99, 0.95)
    widest = tolerance_interval([1.0, 2.0], 0.999, 0.95)
    assert widest.low >= 0 and math.isfinite(widest.high)
    assert math.nan not in Interval(-math.inf, math.inf)


def test_a_margin_is_a_share_of_what_was_seen() -> None:
    """At either end, below 0 as well; one run is enough."""
    assert margin_interval([2.0, 4.0], 0.25) == Interval(1.5, 5.0)
    assert margin_interval([-4.0], 0.25) == Interval(-5.0, -3.0)


def test_no_band_is_narrower_than_it_may_be() -> None:
    """Or the last digit of a figure that never varied would be drift."""
    assert widened(Interval(10.0, 10.0), 10.0, 0.01, 0.0) == Interval(9.9, 10.1)
    assert widened(Interval(0.0, 0.0), 0.0, 0.01, 1e-6) == Interval(-1e-6, 1e-6)
    assert widened(Interval(5.0, 15.0), 10.0, 0.01, 1.0) == Interval(5.0, 15.0)
