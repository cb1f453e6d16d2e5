from __future__ import annotations

import math

import pytest

from tunematrix.checks.verdict import decide, listed, missing, within


@pytest.mark.parametrize(
    ("low", "high", "bound"),
    [(1.0, 2.0, "1 to 2"), (1.0, None, ">= 1"), (None, 2.0, "<= 2"), (0.0, 0.0, "0 to 0")],
)
def test_bounds_in_words(low: float | None, high: float | None, bound: str) -> None:
    """An absent bound isn't shown as infinite."""
    assert within("x", 1.0, low, high, "", unit="").bound == bound


@pytest.mark.parametrize(
    ("measured", "low", "high", "outcome"),
    [
        (1.0, 1.0, 2.0, "passed"),
        (2.0, 1.0, 2.0, "passed"),
        (math.nextafter(1.0, 0.0), 1.0, 2.0, "failed"),
        (math.nextafter(2.0, 3.0), 1.0, 2.0, "failed"),
        (-9e9, None, 2.0, "passed"),
        (9e9, 1.0, None, "passed"),
        (0.0, 0.0, 0.0, "passed"),
        (0.1, 0.0, 0.0, "failed"),
        (-0.1, 0.0, 0.0, "failed"),
        (math.nan, 1.0, 2.0, "failed"),
        (math.nan, None, 2.0, "failed"),
        (math.inf, 1.0, None, "failed"),
        (-math.inf, None, 2.0, "failed"),
    ],
)
def test_within(measured: float, low: float | None, high: float | None, outcome: str) -> None:
    """Bounds belong to what passes; nan and infinity don't, even where no bound excludes them."""
    assert within("x", measured, low, high, "why", unit="MB").outcome == outcome


def test_only_failures_explain_themselves() -> None:
    """A passing verdict has no message that would read like a complaint."""
    assert decide("x", True, 1.0, "1", "why").message == ""
    assert decide("x", False, 1.0, "1", "why").message == "why"


def test_missing_evidence_is_a_failure() -> None:
    """It says what was never recorded, and what may have kept it from being so."""
    verdict = missing("x", "a thing")
    assert (verdict.outcome, verdict.measured, verdict.bound) == (
        "failed",
        None,
        "a record of a thing",
    )
    assert "no record of a thing" in verdict.message
    assert "stopped early or ran without this meter" in verdict.message


def test_listed() -> None:
    """Many names become a few and a number."""
    assert listed([]) == ""
    assert listed(["a", "b", "c"]) == "a, b, c"
    assert listed(("a", "b", "c", "d", "e")) == "a, b, c and 2 more"
    assert listed(["a", "b"], most=1) == "a and 1 more"
