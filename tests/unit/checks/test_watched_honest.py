"""Honest training that is watched: no check fails, whatever kind of training it is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.watched import (
    AUDITED,
    SCALED,
    Change,
    fields,
    with_records,
)

from tunematrix.checks.registry import registry
from tunematrix.probe.tunematrix_probe.records import (
    SeenBatch,
    SeenClip,
    SeenEvaluation,
    SeenGradient,
    SeenLoaderWorker,
    SeenLoss,
    SeenModel,
    SeenPrecision,
    SeenSaved,
    SeenScheduler,
    SeenStep,
    SeenUpdate,
)

if TYPE_CHECKING:
    from tests.unit.conftest import Run

UNIT = replace(SCALED, factor=1.0)
"""Of a factor of 1, so that no weight of a token changes."""
CLIP = SeenClip("norm", 1.0, 2.5, 4, 4, scaled=False, before_backward=False)


def test_an_honest_run_passes(watching: Run, two: Run) -> None:
    """Every check of the group has something to say of it, but that of several processes."""
    group = {check.name for check in registry().in_group("watch")}
    for run, silent in ((watching, {"watched_ranks", "watched_memory_growth"}), (two, set())):
        verdicts = {name: one for name, one in run.verdicts().items() if name in group}
        assert {one.outcome for one in verdicts.values()} == {"passed"}, run.verdicts()
        assert group - set(verdicts) <= silent | {"watched_memory_growth"}


# Changes that honest runs of other kinds have; none of them is a failure.
HONEST: dict[str, tuple[type[Any], Change]] = {
    "SGD without a schedule": (SeenScheduler, lambda _: None),
    "a schedule by the epoch": (SeenScheduler, fields(calls=1)),
    "a schedule by a metric": (SeenScheduler, fields(calls=0, by_metric=True)),
    "a scaler": (SeenStep, fields(scaler=UNIT)),
    "an optimizer of another kind": (SeenUpdate, fields(error=None, rule="", uphill=0.1)),
    "a loss that is none": (SeenStep, fields(loss=None, model_loss=None)),
    "a loss of another kind": (SeenLoss, fields(fits=0.1, targets_next=0)),
    "a sum": (
        SeenLoss,
        lambda one: replace(one, weight_least=1.0, weight_most=1.0, weight_sum=24.0),
    ),
    "another network of the same shapes": (SeenSaved, fields(tensors=9, differing=2)),
    "images": (SeenBatch, fields(labelled=None, tokenized=False)),
    "no data loader of several workers": (SeenLoaderWorker, lambda _: None),
    "bfloat16": (
        SeenPrecision,
        fields(entered=("cpu:bfloat16",), autocast="bfloat16", products={"bfloat16": 40}),
    ),
    "a model without dropout": (SeenModel, fields(dropouts=0, adapters=0)),
    "no clipping": (SeenStep, fields(clips=())),
    "clipping by value": (SeenStep, fields(clips=(replace(CLIP, way="value"),))),
    "clipping in turns": (
        SeenStep,
        lambda one: replace(one, clips=(CLIP,) if one.step in AUDITED else ()),
    ),
    "two optimizers in turns": (SeenStep, fields(kept=4, zeroed=1)),
    "an evaluation": (SeenEvaluation, fields(passes=40, longest=40)),
    "a pass without gradients in training": (
        SeenEvaluation,
        fields(training=2, effective=2, longest_effective=1),
    ),
    "an optimizer's state": (SeenSaved, fields(matched=0, differing=0)),
    "label smoothing": (SeenLoss, fields(smoothing=0.1, fits=0.99)),
    "gradients in bfloat16": (SeenGradient, fields(error=0.02, scale=0.408, tolerance=0.05)),
}


@pytest.mark.parametrize("kind", HONEST)
def test_other_honest_runs(watching: Run, kind: str) -> None:
    """No check fails."""
    assert not with_records(watching, *HONEST[kind]).failed()


@pytest.mark.parametrize("each", [1.0, 1 / 24])
def test_a_sum_that_is_divided_afterwards(watching: Run, each: float) -> None:
    """Some loops divide gradients by the tokens of a step, or by its micro-batches, by hand."""
    weights = {"weight_least": each, "weight_most": each, "weight_sum": 24 * each}
    run = with_records(watching, SeenLoss, fields(**weights))
    by_hand = with_records(run, SeenGradient, fields(scale=0.4 / (48 * each)))
    assert by_hand.failed() == set()
    assert by_hand.verdicts()["watched_gradient"].outcome == "passed"
    assert by_hand.verdicts()["watched_loss"].outcome == "passed"


def test_a_scaled_loss_is_judged_without_its_factor(watching: Run) -> None:
    """The gradient at the logits has it."""

    def scaled(one: SeenLoss) -> SeenLoss:
        weights = {
            name: SCALED.factor * getattr(one, name)
            for name in ("weight_least", "weight_most", "weight_sum")
        }
        return replace(one, **weights)

    run = with_records(with_records(watching, SeenLoss, scaled), SeenStep, fields(scaler=SCALED))
    assert run.verdicts()["watched_loss"].outcome == "passed"
