from __future__ import annotations

import math

import pytest

from tunematrix.checks.arithmetic import logged_error, relative, severity, tolerance

NAN = math.nan


@pytest.mark.parametrize(
    ("measured", "wanted", "error"),
    [(1.01, 1.0, 0.01), (0.99, 1.0, 0.01), (-3.0, -2.0, 0.5), (2.0, 2.0, 0.0), (0.0, 4.0, 1.0)],
)
def test_relative(measured: float, wanted: float, error: float) -> None:
    """Errors are shares of what was wanted, of either sign."""
    assert relative(measured, wanted) == pytest.approx(error)


@pytest.mark.parametrize(
    ("measured", "wanted"),
    [(0.0, 0.0), (1.0, 0.0), (NAN, 1.0), (1.0, NAN), (math.inf, math.inf), (1.0, math.inf)],
)
def test_relative_to_nothing(measured: float, wanted: float) -> None:
    """Where there is nothing to compare with, the error is nan, which no bound lets pass."""
    assert math.isnan(relative(measured, wanted))


@pytest.mark.parametrize(
    ("logged", "wanted", "error"),
    [
        (0.6931, 0.693147, 0.0),  # as four decimals have it
        (0.6932, 0.693147, 3e-6 / 0.693147),
        (2.7726, 0.693147, 2.999947),
        (0.693247, 0.693147, 1e-4 / 0.693147),  # six decimals are held to all of them
        (NAN, 0.693147, NAN),
        (0.6931, NAN, NAN),
    ],
)
def test_logged_error(logged: float, wanted: float, error: float) -> None:
    """What a log has rounded off is no error, and nothing else is forgiven."""
    assert logged_error(logged, wanted) == pytest.approx(error, rel=1e-3, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("figures", [[NAN, 1.0], [1.0, NAN], [math.inf, NAN, 2.0]])
def test_nan_is_the_worst(figures: list[float]) -> None:
    """Wherever it stands: max() alone keeps a nan only in the first place."""
    assert math.isnan(max(figures, key=severity))


def test_severity_orders_figures() -> None:
    """Otherwise the largest is the worst."""
    assert max([0.1, math.inf, 0.3], key=severity) == math.inf
    assert max([0.1, 0.4, 0.3], key=severity) == 0.4


def test_tolerance_is_that_of_the_coarsest_dtype() -> None:
    """Unknown dtypes, and none at all, are allowed nothing."""
    table = {"float32": 1e-3, "bfloat16": 0.1}
    assert tolerance(table, ("float32",)) == 1e-3
    assert tolerance(table, ("bfloat16", "float32")) == 0.1
    assert tolerance(table, ("float8",)) == 0.0
    assert tolerance(table, ()) == 0.0
