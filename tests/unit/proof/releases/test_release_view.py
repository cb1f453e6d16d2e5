"""Findings over regressions as rows of a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tunematrix.proof.releases.trials import RegressionFinding
from tunematrix.proof.releases.view import differing, expected, score, tables
from tunematrix.report.terminal import render

FOUND = RegressionFinding(
    id="R4",
    link="https://example.org/2617",
    shows="gradients are summed",
    packages={
        "faulty": {"trl": "0.13.0", "peft": "0.14.0", "certifi": "1"},
        "fixed": {"trl": "0.14.0", "peft": "0.14.0", "certifi": "2"},
    },
    expected={"check": "dpo_gradient"},
    observed="detected",
    reason="",
    check="dpo_gradient 3 relative",
    seconds=12.34,
)
MISSED = replace(FOUND, id="R5", observed="missed", check="", reason="every check passed")


def test_releases() -> None:
    """Those that differ and matter, or all that differ; a side as it is; and a live fault."""
    assert differing(FOUND) == "trl 0.13.0 → 0.14.0"
    small = {"faulty": {"wobble": "1"}, "fixed": {"wobble": "2"}}
    assert differing(replace(FOUND, packages=small)) == "wobble 1 → 2"
    today = {**FOUND.packages, "fixed": {}}
    assert differing(replace(FOUND, packages=today)).startswith("trl 0.13.0 → as it is, peft")
    live: Mapping[str, Mapping[str, str] | None] = {"faulty": {}, "fixed": None}
    assert "none is fixed" in differing(replace(FOUND, packages=live))


def test_expected() -> None:
    """A check by its name, an exception with its phase."""
    assert expected(FOUND) == "dpo_gradient"
    loud = replace(FOUND, expected={"raises": "TypeError", "phase": "attach"})
    assert expected(loud) == "TypeError in attach"


def test_table() -> None:
    """What noticed stands in the row, why another wasn't detected below, and the score last."""
    text = render(tables([FOUND, MISSED]), 120, colour=False)
    assert "dpo_gradient 3 relative" in text and "12.3" in text
    assert "missed: expected dpo_gradient; every check passed" in text
    assert "https://example.org/2617" in text
    assert text.rstrip().endswith("✓ 1 detected   ✗ 1 missed   of 2")
    assert score([FOUND]).plain == "✓ 1 detected   of 1"
