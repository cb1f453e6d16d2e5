from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from tunematrix.evidence.events import (
    Continuity,
    Evaluation,
    EvaluationPasses,
    Event,
    LoggedEvaluation,
    LoggedStep,
    MicroBatch,
    StepLoss,
)
from tunematrix.evidence.figures import gap_closed

if TYPE_CHECKING:
    from tests.unit.conftest import Run


@pytest.mark.parametrize(
    ("dtype", "share"), [("float32", 2e-5), ("bfloat16", 1e-3), ("float16", 1e-3)]
)
def test_first_loss_at_its_tolerance(run: Run, dtype: str, share: float) -> None:
    """Above and below, by dtype; a gradient or loss that is 1 % off fails in all of them."""
    half = run.configured(precision={"compute": dtype})
    for sign in (1, -1):
        inside = half.edited(LoggedStep, 0, loss=5.0 * (1 + sign * 0.99 * share))
        outside = half.edited(LoggedStep, 0, loss=5.0 * (1 + sign * 1.01 * share))
        assert "first_loss" not in inside.failed()
        assert "first_loss" in outside.failed()
        assert "first_loss" in half.edited(LoggedStep, 0, loss=5.0 * (1 + sign * 0.01)).failed()


def test_losses_that_were_rounded_before_they_were_logged(run: Run) -> None:
    """Half of the fourth decimal is no error of the loss; three whole ones are."""
    for step, loss in enumerate((5.0, 4.0)):
        exact = run.edited(StepLoss, step, loss=loss + 4.9e-5)
        assert not exact.edited(LoggedStep, step, loss=loss).failed()
        assert exact.edited(LoggedStep, step, loss=loss - 3e-4).failed()


def test_first_loss_of_a_batch_in_which_nothing_counts(run: Run) -> None:
    """Where every label is masked, a logged loss of 0 equals the computed one and means nothing."""
    masked = run.edited(StepLoss, 0, loss=0.0, tokens=0).edited(LoggedStep, 0, loss=0.0)
    verdict = masked.verdicts()["first_loss"]
    assert verdict.outcome == "failed"
    assert "over 0 tokens" in verdict.message


def test_first_loss_needs_the_first_step(run: Run) -> None:
    """The loss of a later step is not compared with the first batch."""
    assert run.edited(LoggedStep, 0, loss=None).verdicts()["first_loss"].measured is None


@pytest.mark.parametrize(
    ("dtype", "share"), [("float32", 2e-5), ("bfloat16", 1e-3), ("float16", 1e-3)]
)
def test_losses_of_later_steps_at_their_tolerance(run: Run, dtype: str, share: float) -> None:
    """The worst of the steps that were recomputed decides."""
    half = run.configured(precision={"compute": dtype})
    inside = half.edited(LoggedStep, 1, loss=4.0 * (1 - 0.99 * share))
    outside = half.edited(LoggedStep, 1, loss=4.0 * (1 - 1.01 * share))
    assert "step_losses" not in inside.failed()
    assert "step_losses" in outside.failed()


def test_losses_of_steps_that_were_not_recomputed(run: Run) -> None:
    """What their passes gave, over the tokens that count, is held to the same tolerance."""
    off = run.edited(LoggedStep, 2, loss=3.0 * (1 + 1.1 * 2e-5))
    assert "step_losses" not in run.edited(LoggedStep, 2, loss=3.0 * (1 + 0.9 * 2e-5)).failed()
    assert off.verdicts()["step_losses"].measured == pytest.approx(2.2e-5, rel=1e-3)
    assert "step_losses" in off.failed()
    assert "step_losses" in run.edited(MicroBatch, 5, counted=18).failed()
    for figure in (math.nan, math.inf):
        assert "step_losses" in run.edited(MicroBatch, 5, nats=figure).failed()
    for changed in (
        run.edited(MicroBatch, 5, nats=None),
        run.configured(launcher={"processes": 2}),
        run.configured(train={"label_smoothing": 0.1}),
    ):
        assert "step_losses" not in changed.edited(LoggedStep, 2, loss=3.3).failed()


def test_losses_of_later_steps_need_their_lines(run: Run) -> None:
    """One that was recomputed and not logged vouches for nothing, nor does the first alone."""
    for changed in (
        run.edited(LoggedStep, 1, loss=None),
        run.recording(StepLoss(0, 5.0, 34)),
    ):
        assert changed.failed() - {"steps_logged"} == {"step_losses"}
        assert changed.verdicts()["step_losses"].measured is None


@pytest.mark.parametrize(
    ("ends_as", "fails"), [((2,), False), ((2, 3), False), ((4,), True), ((), True), (None, True)]
)
def test_the_best_checkpoint(run: Run, ends_as: tuple[int, ...] | None, fails: bool) -> None:
    """It is that of the lowest evaluation, after step 2 here, to the bit."""
    assert "best_loaded" not in run.verdicts()
    best = run.configured(train={"load_best": True}).recording(
        LoggedEvaluation(2, 1.5), LoggedEvaluation(4, 1.7)
    )
    ended = best.edited(Continuity, ends_as=ends_as)
    assert ("best_loaded" in ended.failed()) is fails


def test_a_single_step_has_no_later_ones(run: Run) -> None:
    """Then the first loss is all there is."""
    assert "step_losses" not in run.configured(train={"max_steps": 1}).verdicts()


def test_losses_where_a_line_is_about_several_steps(run: Run) -> None:
    """An average over steps is the cross-entropy of none."""
    seldom = run.configured(train={"logging_steps": 2}).verdicts()
    assert not {"first_loss", "step_losses"} & seldom.keys()


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_each_loss_has_to_be_finite(run: Run, loss: float) -> None:
    """In any line; the message names the first bad one."""
    bad = run.edited(LoggedStep, 1, loss=loss).edited(LoggedStep, 2, loss=loss)
    verdict = bad.verdicts()["finite_loss"]
    assert (verdict.outcome, verdict.measured, verdict.unit) == ("failed", 2, "lines")
    assert f"step 2 logged {loss}" in verdict.message


def test_lines_without_a_loss_prove_nothing(run: Run) -> None:
    """Four lines, none of which has a loss, are not four finite losses."""
    silent = run.recording(*(LoggedStep(step, None) for step in (1, 2, 3, 4)))
    assert {"finite_loss", "first_logged_loss", "final_loss", "first_loss"} <= silent.failed()


def test_recipes_that_log_no_loss(run: Run) -> None:
    """Where no log is owed, no loss is; where one is logged all the same, it is judged."""
    silent = run.without(LoggedStep).configured(recipe={"owes": ["process"]}).asked(loss={})
    assert "finite_loss" not in silent.verdicts()
    assert "finite_loss" in silent.recording(LoggedStep(1, math.nan)).failed()


def test_losses_may_be_nan_where_the_spec_allows_it(run: Run) -> None:
    """Then finite_loss is silent, but a nan still isn't within any bound."""
    allowed = run.edited(LoggedStep, 3, loss=math.nan)
    assert allowed.asked(loss={"no_nan": False}).failed() == set()
    bounded = allowed.asked(loss={"no_nan": False, "final_max": 3.0})
    assert bounded.failed() == {"final_loss"}


@pytest.mark.parametrize("bounds", [{"final_min": 1.0}, {"first_min": 1.0}])
def test_an_infinite_loss_is_above_no_minimum(run: Run, bounds: dict[str, float]) -> None:
    """A minimum alone doesn't let infinity pass."""
    infinite = run.recording(LoggedStep(1, math.inf, 1.0)).asked(loss={"no_nan": False, **bounds})
    assert infinite.failed() & {"final_loss", "first_logged_loss"}


@pytest.mark.parametrize(
    ("check", "position", "bounds"),
    [
        ("final_loss", -1, {"final_min": 1.0, "final_max": 3.0}),
        ("first_logged_loss", 0, {"first_min": 1.0, "first_max": 3.0}),
    ],
)
def test_logged_losses_at_their_bounds(
    run: Run, check: str, position: int, bounds: dict[str, float]
) -> None:
    """The bounds themselves pass, what lies beyond fails, and without bounds nothing is said."""
    bounded = run.asked(loss=bounds)
    for loss, passes in ((1.0, True), (3.0, True), (0.999, False), (3.001, False)):
        changed = bounded.edited(LoggedStep, position, loss=loss)
        assert (check not in changed.failed()) is passes
    assert check not in run.asked(loss={}).verdicts()


def test_last_line_without_a_loss_is_passed_by(run: Run) -> None:
    """Trainers end their log with a summary; the final loss is the last that there is."""
    summary = LoggedStep(4, None)
    run = run.recording(*run.evidence.all(LoggedStep), summary)
    assert run.verdicts()["final_loss"].measured == 2.0


def test_steps_logged_at_its_bound(run: Run) -> None:
    """As many as asked for are enough."""
    assert "steps_logged" not in run.asked(min_steps_logged=4).failed()
    assert "steps_logged" in run.asked(min_steps_logged=5).failed()


def test_logging_less_often_than_training(run: Run) -> None:
    """The commonest reason for an empty log is named with its settings."""
    quiet = run.without(LoggedStep).configured(train={"logging_steps": 10})
    message = quiet.verdicts()["steps_logged"].message
    assert "train.max_steps=4 is below train.logging_steps=10" in message
    assert "raise the one or lower the other" in message
    every = run.without(LoggedStep).configured(train={"logging_steps": 4})
    assert "is below" not in every.verdicts()["steps_logged"].message


@pytest.mark.parametrize(
    ("before", "after", "floor", "share"),
    [
        (5.4, 0.9, 0.4, 0.9),
        (5.4, 5.4, 0.4, 0.0),
        (5.4, 0.4, 0.4, 1.0),
        (0.9, 0.8, 0.4, 0.2),
        (2.4, 3.4, 0.4, -0.5),
    ],
)
def test_share_of_the_gap(
    run: Run, before: float, after: float, floor: float, share: float
) -> None:
    """(before - after) / (before - floor), worked out by hand."""
    measured = run.recording(Evaluation("before", before, floor), Evaluation("after", after, floor))
    assert gap_closed(measured.evidence) == pytest.approx(share)
    assert measured.verdicts()["gap_closed"].measured == pytest.approx(share)


@pytest.mark.parametrize("before", [0.4, 0.3])
def test_a_base_at_its_floor_has_no_gap(run: Run, before: float) -> None:
    """No honest base is better than the floor; a share of such a gap never passes."""
    start = run.edited(Evaluation, 0, loss=before).asked(gap_closed={"min": 0.0})
    assert start.failed() == {"gap_closed"}
    gap = gap_closed(start.evidence)
    assert gap is not None and math.isnan(gap)


@pytest.mark.parametrize(
    ("bounds", "passes"),
    [
        ({"min": 0.92}, True),
        ({"min": 0.93}, False),
        ({"max": 0.92}, True),
        ({"max": 0.91}, False),
        ({"min": 0.9, "max": 0.95}, True),
    ],
)
def test_gap_at_its_bounds(run: Run, bounds: dict[str, float], passes: bool) -> None:
    """A share of exactly 0.92 against either bound alone, and both."""
    exact = run.recording(Evaluation("before", 100.0, 0.0), Evaluation("after", 8.0, 0.0))
    assert ("gap_closed" not in exact.asked(gap_closed=bounds).failed()) is passes


@pytest.mark.parametrize("when", ["before", "after"])
def test_half_a_gap_is_none(run: Run, when: str) -> None:
    """One evaluation without the other is missing evidence."""
    events = [e for e in run.evidence.all(Evaluation) if e.when != when]
    half = run.recording(*events)
    assert half.verdicts()["gap_closed"].measured is None
    assert half.failed() == {"gap_closed"}
    assert gap_closed(half.evidence) is None


@pytest.mark.parametrize("steps", [(2,), (1, 2), (2, 4, 5), (1, 2, 3, 4)])
def test_evaluations_at_other_steps(run: Run, steps: tuple[int, ...]) -> None:
    """Too few, too many, or after steps that weren't asked for."""
    assert run.recording(*_evaluated(*steps)).failed() == {"evaluations"}


def test_an_evaluation_at_the_end(run: Run) -> None:
    """Some trainers do one after the last step, whatever its number."""
    every_third = run.configured(train={"eval_steps": 3})
    for steps in ((3,), (3, 4)):
        assert not every_third.recording(*_evaluated(*steps)).failed()


def test_evaluations_that_nobody_asked_for(run: Run) -> None:
    """Silent where there are none, and failed where there are."""
    unasked = run.configured(train={"eval_steps": 0})
    assert unasked.failed() == {"evaluations"}
    assert "evaluations" not in unasked.without(LoggedEvaluation).verdicts()


@pytest.mark.parametrize(
    ("fields", "passes"),
    [
        ({"by_rows": 4.5}, False),
        ({"by_rows": 4.5, "by_tokens": 4.0}, True),
        ({"by_rows": math.nan, "by_tokens": math.nan}, False),
        ({"by_rows": math.inf, "by_tokens": math.inf}, False),
        ({"faithful": 7}, False),
        ({"held_out": 9}, False),
        ({"rows": 0, "faithful": 0}, False),
        ({"step": 3}, False),
    ],
)
def test_losses_of_evaluations(run: Run, fields: dict[str, Any], passes: bool) -> None:
    """By rows or by tokens, whichever the trainer means; over held-out rows and no others."""
    changed = run.edited(EvaluationPasses, 0, **fields)
    assert changed.failed() == (set() if passes else {"evaluation_loss"})


def _evaluated(*steps: int) -> list[Event]:
    """Return honest evaluations after these steps."""
    return [
        event
        for step in steps
        for event in (
            LoggedEvaluation(step, 1.5),
            EvaluationPasses(step, 1.5, 1.5, 8, 8, 8, 0),
        )
    ]
