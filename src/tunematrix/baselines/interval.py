"""Figures of honest runs → the interval in which further ones lie.

A tolerance interval holds, with a stated confidence, a stated share of all runs (its coverage). So
at most the rest of honest runs lies outside: that is the rate of false alarms. It takes logarithms
of the figures to be normally distributed, where all are positive; how far other distributions are
off is told in docs/baselines.md.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

LEAST_RUNS = 20
"""Below it, the interval of 99.9 % is wider than anything that drifts."""
COVERAGE = 0.999
"""Share of honest runs that an interval is to hold, unless another is asked for."""
CONFIDENCE = 0.95
"""How sure it is that an interval holds as many."""

_LARGEST = 700.0
"""Logarithm of about the largest figure there is."""


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`; both belong to it."""

    low: float
    high: float

    def __contains__(self, figure: float) -> bool:
        return self.low <= figure <= self.high  # which no nan is


def tolerance_factor(count: int, coverage: float, confidence: float) -> float:
    """Return how many standard deviations a two-sided tolerance interval reaches from the mean.

    By Howe (1969); for 20 runs or more it is within 0.12 % of the exact factor.

    Args:
        count: runs, 2 or more. coverage: share that the interval is to hold, below 1.
        confidence: how sure it is to, below 1.
    """
    reach = NormalDist().inv_cdf((1 + coverage) / 2)
    freedom = count - 1
    return reach * math.sqrt(freedom * (1 + 1 / count) / _chi_square(1 - confidence, freedom))


def tolerance_interval(figures: Sequence[float], coverage: float, confidence: float) -> Interval:
    """Return the interval that holds `coverage` of all runs like these, with `confidence`.

    What was seen lies in it, too.

    Args:
        figures: two or more, all finite.
        coverage: below 1. confidence: below 1.
    """
    is_positive = min(figures) > 0
    scaled = [math.log(one) for one in figures] if is_positive else list(figures)
    mean, deviation = statistics.fmean(scaled), statistics.stdev(scaled)
    reach = tolerance_factor(len(figures), coverage, confidence) * deviation
    low, high = mean - reach, mean + reach
    if is_positive:
        low, high = math.exp(low), math.exp(min(high, _LARGEST))
    return Interval(min(low, *figures), max(high, *figures))


def margin_interval(figures: Sequence[float], share: float) -> Interval:
    """Return what was seen, and a share of it more at either end: it states no coverage.

    Args:
        figures: one or more, all finite. share: 0.25 for "observed + 25 %".
    """
    low, high = min(figures), max(figures)
    return Interval(low - share * abs(low), high + share * abs(high))


def widened(interval: Interval, median: float, share: float, least: float) -> Interval:
    """Return the interval, no nearer to the median than a share of it, and than `least`."""
    reach = max(share * abs(median), least)
    return Interval(min(interval.low, median - reach), max(interval.high, median + reach))


def _chi_square(probability: float, freedom: int) -> float:
    """Return a quantile of the chi-square distribution, by Wilson and Hilferty (1931)."""
    part = 2 / (9 * freedom)
    root = 1 - part + NormalDist().inv_cdf(probability) * math.sqrt(part)
    return float(freedom * root**3)
