"""What is unusual in training that is watched, and may be right: it is warned of, and no more."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.watched import (
    Change,
    fields,
    of_pass,
    with_records,
)

from tunematrix.probe.tunematrix_probe.records import (
    SeenBatch,
    SeenClip,
    SeenCoverage,
    SeenEvaluation,
    SeenGradient,
    SeenLoss,
    SeenModel,
    SeenMoved,
    SeenSaved,
    SeenScheduler,
    SeenStep,
    SeenUpdate,
)

if TYPE_CHECKING:
    from tests.unit.conftest import Run

CLIP = SeenClip("norm", 1.0, 2.5, 4, 4, scaled=False, before_backward=False)


def _whole(one: SeenLoss) -> SeenLoss:
    return replace(one, weight_least=1 / 24, weight_most=1 / 24, weight_sum=1.0)


# Records that are unusual, and of a run that may be right: check to a part of its warning.
UNUSUAL: dict[str, tuple[type[Any], Change, str, str]] = {
    "a rate of 0 in the first step": (
        SeenStep,
        lambda one: replace(one, learning_rates=(0.0,)) if one.step == 0 else one,
        "watched_learning_rate",
        "its batch teaches nothing",
    ),
    "a module that is never called": (
        SeenCoverage,
        fields(idle=1, idle_names=("vision",)),
        "watched_trainable",
        "never got a gradient: vision",
    ),
    "a network that nothing trains": (
        SeenCoverage,
        fields(missing=9, missing_alone=9, missing_names=("vgg",)),
        "watched_trainable",
        "freezing it would save memory",
    ),
    "updates that are rounded away": (
        SeenMoved,
        fields(moved=3, rounded_away=1, unmoved_names=("norm",)),
        "watched_moved",
        "smaller than what the dtype",
    ),
    "steps that are left out": (
        SeenStep,
        lambda one: replace(one, discarded=2) if one.step == 3 else one,
        "watched_zeroed",
        "in step 4, the gradients of 2 backward passes",
    ),
    "a gradient that is scaled, of a loss that is none of ours": (
        SeenGradient,
        fields(scale=0.8),
        "watched_gradient",
        "its scale isn't",
    ),
    "not divided": (SeenLoss, _whole, "watched_loss", "each of 2 micro-batches counts whole"),
    "all passes without gradients in training mode": (
        SeenEvaluation,
        fields(training=4, effective=4, longest_effective=2),
        "watched_mode",
        "all 4 forward passes without gradients",
    ),
    "decay by hand": (
        SeenUpdate,
        fields(changed_between=4, undone=0),
        "watched_update",
        "something else than the optimizer",
    ),
    "the same batch": (
        SeenBatch,
        fields(digests=("a", "b")),
        "watched_batches",
        "all 5 steps were made with the same 4 rows",
    ),
    "evaluation in training mode": (
        SeenEvaluation,
        fields(training=4, effective=4, longest_effective=4),
        "watched_mode",
        "call model.eval() before",
    ),
    "clipping by hand": (
        SeenGradient,
        lambda one: replace(one, error=0.5, reached=tuple(v / 3 for v in one.reached[:1])),
        "watched_gradient",
        "right if the loop clips each by hand",
    ),
    "a schedule for steps that is called by the epoch": (
        SeenScheduler,
        fields(calls=1, length=5),
        "watched_schedule",
        "made for 5 calls, and had 1 in 5 steps",
    ),
    "embeddings that should be tied": (
        SeenModel,
        fields(untied=True),
        "watched_trainable",
        "they are two tensors",
    ),
    "hard clipping": (
        SeenStep,
        fields(clips=(replace(CLIP, norm=500.0),)),
        "watched_clipping",
        "at least 500 times the limit",
    ),
    "a mean of means": (
        SeenLoss,
        of_pass(0, weight_least=1 / 96, weight_most=1 / 96, weight_sum=0.5, counted=48),
        "watched_loss",
        "a mean of means",
    ),
    "end tokens that are masked": (
        SeenBatch,
        fields(ends_labelled=0),
        "watched_labels",
        "never learns to stop",
    ),
    "one labelled padding a row": (
        SeenBatch,
        fields(padding_labelled=2),
        "watched_labels",
        "of padding, in 2 rows",
    ),
    "rows drawn with replacement": (
        SeenBatch,
        lambda one: replace(one, digests=(f"{one.step}", "a")),
        "watched_batches",
        "an epoch is cut short, or the data holds the same row several times",
    ),
    "padding": (SeenBatch, fields(tokens=10), "watched_batches", "69% of the positions"),
    "an average over steps": (
        SeenSaved,
        fields(differing=4, differing_names=("a",)),
        "watched_checkpoint",
        "right if they are an average",
    ),
    "an accelerator that is idle": (
        SeenModel,
        fields(accelerators=("cuda",)),
        "watched_device",
        "PyTorch could use cuda here",
    ),
}


@pytest.mark.parametrize("oddity", UNUSUAL)
def test_what_is_unusual_is_a_warning(watching: Run, oddity: str) -> None:
    """It decides nothing."""
    kind, change, name, words = UNUSUAL[oddity]
    if kind is SeenGradient:
        watching = with_records(watching, SeenLoss, lambda _: None)
    verdicts = with_records(watching, kind, change).verdicts()
    assert {one.name for one in verdicts.values() if one.outcome != "passed"} == {name}
    assert verdicts[name].outcome == "warned"
    assert words in verdicts[name].message


def _grown(one: SeenStep) -> SeenStep:
    return replace(one, memory=500_000_000 + 20_000_000 * one.step)


def test_memory_that_grows(watching: Run) -> None:
    """Judged from 21 steps on; a start that takes memory once is none."""
    (process,) = watching.evidence.watched
    (step, *_) = process.all(SeenStep)
    for change, outcome in ((_grown, "warned"), (lambda one: one, "passed")):
        steps = [change(replace(step, step=n)) for n in range(30)]
        first = replace(steps[0], memory=10)
        seen = replace(process, records=(*process.records, first, *steps[1:]))
        verdict = watching.leaving(watched=(seen,)).verdicts()["watched_memory_growth"]
        assert verdict.outcome == outcome
