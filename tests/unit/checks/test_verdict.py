from __future__ import annotations

import json
import math
from typing import Any

import pytest

from tunematrix.checks.bound import AtMost, Bound, Exactly, Recorded
from tunematrix.checks.verdict import Judgement, Verdict, judge_by, listed, missing, unbounded


def test_only_failures_explain_themselves() -> None:
    """A passing verdict has no message that would read like a complaint."""
    assert judge_by(AtMost(2), 1.0, "why").message == ""
    assert judge_by(AtMost(2), 3.0, "why").message == "why"


def test_the_bound_decides() -> None:
    """And what it takes for the figure to prove anything, which can't make up for the figure."""
    assert judge_by(AtMost(2), 1.0, "why", provided=False).outcome == "failed"
    assert judge_by(AtMost(2), 3.0, "why", provided=True).outcome == "failed"
    assert judge_by(AtMost(2), 1.0, "why", provided=True).outcome == "passed"


def test_a_judgement_gets_its_name_and_unit() -> None:
    """The check's unit, unless what was measured has one of its own."""
    assert Judgement("failed", 1, Exactly(0), "why").verdict("x", "rows") == Verdict(
        "x", "failed", 1, Exactly(0), "rows", "why"
    )
    assert judge_by(Exactly(0), 1, "why", unit="steps").verdict("x", "rows").unit == "steps"


def test_missing_evidence_is_a_failure() -> None:
    """It says what was never recorded, and what may have kept it from being so."""
    verdict = missing("a thing").verdict("x", "rows")
    assert (verdict.outcome, verdict.measured, verdict.bound) == ("failed", None, None)
    assert verdict.unit == ""
    assert not verdict.is_measured
    assert "no reading of a thing" in verdict.message
    assert "stopped early, or this meter didn't run" in verdict.message


def test_a_bound_that_the_spec_lacks_is_a_failure() -> None:
    """What was measured and that nothing decides."""
    verdict = unbounded("merge.max").verdict("merge")
    assert (verdict.outcome, verdict.bound) == ("failed", None)
    assert "add merge.max" in verdict.message


@pytest.mark.parametrize("measured", [1.5, 3, "cpu", None, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "bound", [AtMost(2.0, note="of ten"), AtMost(math.nan), Exactly("x"), None]
)
def test_there_and_back_again(measured: float | str | None, bound: Bound | None) -> None:
    """JSON has neither nan nor infinity, and the bound stays data."""
    verdict = Verdict("x", "failed", measured, bound, "MB", "why")
    text = json.dumps(verdict.to_json(), allow_nan=False)
    assert repr(Verdict.from_json(json.loads(text))) == repr(verdict)


def test_a_verdict_of_an_old_record() -> None:
    """Its bound is a text: it is shown, and has no margin."""
    old: dict[str, Any] = {
        "name": "reload",
        "outcome": "passed",
        "measured": 0.25,
        "bound": "<= 1",
        "unit": "logits",
        "message": "",
    }
    verdict = Verdict.from_json(old)
    assert verdict.bound == Recorded("<= 1")
    assert str(verdict.bound) == "<= 1"
    assert verdict.slack is None
    assert Verdict.from_json(verdict.to_json()) == verdict


def test_slack_of_a_verdict() -> None:
    """Its bound's; none where nothing was measured."""
    assert Verdict("x", "passed", 0.25, AtMost(1), "", "").slack == 0.75
    assert missing("a thing").verdict("x").slack is None


def test_listed() -> None:
    """Many names become a few and a number."""
    assert listed([]) == ""
    assert listed(["a", "b", "c"]) == "a, b, c"
    assert listed(("a", "b", "c", "d", "e")) == "a, b, c and 2 more"
    assert listed(["a", "b"], most=1) == "a and 1 more"
