"""Checks of training that is watched: honest records pass, and each planted fault fails its own."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.watched import AUDITED, SCALED, Change, changed, fields, honest_process

from tunematrix.checks.registry import registry
from tunematrix.evidence.events import LibraryLoaded
from tunematrix.probe.tunematrix_probe.records import (
    ProbeEnded,
    SeenBatch,
    SeenClip,
    SeenCoverage,
    SeenEvaluation,
    SeenGradient,
    SeenLoaderWorker,
    SeenLoss,
    SeenModel,
    SeenMoved,
    SeenPrecision,
    SeenSaved,
    SeenScheduler,
    SeenStep,
    SeenUpdate,
    SeenWeights,
    SwitchedOff,
)

if TYPE_CHECKING:
    from tests.unit.conftest import Run

UNIT = replace(SCALED, factor=1.0)
"""Of a factor of 1, so that no weight of a token changes."""
CLIP = SeenClip("norm", 1.0, 2.5, 4, 4, scaled=False, before_backward=False)


def _from(step: int, **values: Any) -> Change:
    """Return a change of some fields from a step on."""
    return lambda one: replace(one, **values) if one.step >= step else one


def _of_pass(number: int, **values: Any) -> Change:
    return lambda one: replace(one, **values) if one.pass_number == number else one


def _whole(one: SeenLoss) -> SeenLoss:
    return replace(one, weight_least=1 / 24, weight_most=1 / 24, weight_sum=1.0)


def _short_of_one(one: SeenLoss) -> SeenLoss | None:
    return None if one.pass_number else one


# What is planted: which records change, how, the check that must fail, a part of its message.
PLANTED: dict[str, tuple[type[Any], Change, str, str]] = {
    "no step": (SeenStep, lambda _: None, "watched", "no step of an optimizer"),
    "nothing moves": (
        SeenMoved,
        fields(moved=0, unmoved_names=("a", "b", "c", "d")),
        "watched_moved",
        "a, b, c and 1 more",
    ),
    "one tensor stays": (
        SeenMoved,
        fields(moved=3, unmoved_names=("norm",)),
        "watched_moved",
        "are as they were: norm",
    ),
    "B stays zero": (
        SeenMoved,
        fields(moved=2, adapters_zero=2, adapters_zero_names=("q.lora_B", "v.lora_B")),
        "watched_moved",
        "still zero: q.lora_B, v.lora_B",
    ),
    "weights that are put back": (
        SeenUpdate,
        fields(changed_between=4, undone=4),
        "watched_moved",
        "before the second step, 4 tensors are put back",
    ),
    "a loss that depends on nothing": (
        SeenStep,
        lambda one: replace(one, zero_gradient=4 if one.audited else None, clips=()),
        "watched_moved",
        "all gradients are 0 in each of 3 audited steps",
    ),
    "B is frozen": (
        SeenMoved,
        fields(adapters=0, adapters_frozen_zero=2),
        "watched_moved",
        "zeros and frozen",
    ),
    "no gradient for the optimizer": (
        SeenStep,
        fields(with_gradient=0, gradient_norm=0.0),
        "watched_trainable",
        "no tensor of AdamW had a gradient",
    ),
    "a layer in no group": (
        SeenCoverage,
        fields(missing=2, missing_names=("head",)),
        "watched_trainable",
        "no group of an optimizer has 2 tensors",
    ),
    "an optimizer of an older model": (
        SeenCoverage,
        fields(missing=4, missing_alone=4, foreign=4, replaced=4),
        "watched_trainable",
        "before the model was made anew",
    ),
    "a detach": (
        SeenCoverage,
        fields(idle=2, idle_before=2, idle_names=("embed",)),
        "watched_trainable",
        "detach() or no_grad()",
    ),
    "a frozen base that moves": (
        SeenMoved,
        fields(frozen_changed=1, frozen_changed_names=("embed",)),
        "watched_frozen",
        "changed all the same: embed",
    ),
    "a rate of 0": (
        SeenStep,
        fields(learning_rates=(0.0,)),
        "watched_learning_rate",
        "nothing was trained",
    ),
    "a rate of nan": (
        SeenStep,
        _from(2, learning_rates=(math.nan,)),
        "watched_learning_rate",
        "a step was made at this",
    ),
    "a schedule in each micro-batch": (
        SeenScheduler,
        fields(calls=10),
        "watched_schedule",
        "the schedule runs ahead",
    ),
    "no schedule": (SeenScheduler, fields(calls=0), "watched_schedule", "never stepped in 5 steps"),
    "a schedule before the first step": (
        SeenScheduler,
        fields(before_first=1),
        "watched_schedule",
        "before the optimizer's first step",
    ),
    "a schedule of another optimizer": (
        SeenScheduler,
        fields(optimizer=None),
        "watched_schedule",
        "never made a step",
    ),
    "a gradient that is scaled": (
        SeenGradient,
        fields(scale=0.8),
        "watched_gradient",
        "its scale isn't",
    ),
    "the last micro-batch alone": (
        SeenGradient,
        fields(error=0.7, last_error=1e-6),
        "watched_gradient",
        "the last of 2 micro-batches alone",
    ),
    "a gradient that is nan": (
        SeenGradient,
        fields(error=math.nan, scale=math.nan),
        "watched_gradient",
        "what reaches the optimizer is nan times",
    ),
    "no zero_grad": (
        SeenStep,
        _from(1, kept=4, zeroed=0),
        "watched_zeroed",
        "call zero_grad() once a step",
    ),
    "zero_grad in each micro-batch": (
        SeenStep,
        fields(discarded=1, zeroed=2, zeroed_late=1),
        "watched_zeroed",
        "the gradients of 1 backward pass were zeroed",
    ),
    "clipping without effect": (
        SeenStep,
        fields(gradient_norm=2.5),
        "watched_clipping",
        "reaches the optimizer is 2.5, and the limit 1",
    ),
    "clipping before backward": (
        SeenStep,
        fields(clips=(replace(CLIP, before_backward=True),)),
        "watched_clipping",
        "before the backward pass",
    ),
    "clipping of another model": (
        SeenStep,
        fields(clips=(replace(CLIP, ours=0),)),
        "watched_clipping",
        "isn't what the optimizer steps with",
    ),
    "clipping of nothing": (
        SeenStep,
        fields(clips=(replace(CLIP, tensors=0, ours=0),)),
        "watched_clipping",
        "a generator of parameters",
    ),
    "another formula": (SeenUpdate, fields(error=0.3), "watched_update", "as adamw would"),
    "weights that are nan": (SeenUpdate, fields(not_finite=1), "watched_update", "nan or inf"),
    "steps uphill": (
        SeenUpdate,
        fields(error=None, rule="", uphill=0.99),
        "watched_update",
        "99% of the elements",
    ),
    "labels shifted twice": (
        SeenLoss,
        fields(targets_next=2, targets_second=24),
        "watched_labels",
        "shifted twice",
    ),
    "labels not shifted": (
        SeenLoss,
        fields(targets_next=2, targets_same=24),
        "watched_labels",
        "taught the token that they are given",
    ),
    "padding labelled": (
        SeenBatch,
        fields(padding_labelled=4),
        "watched_labels",
        "labels are on 4 positions of padding",
    ),
    "all masked": (SeenBatch, fields(labelled=0), "watched_labels", "nothing to learn"),
    "nan": (SeenStep, _from(3, loss=math.nan), "watched_loss", "the loss of step 4 is nan"),
    "a micro-batch is missing": (
        SeenLoss,
        _short_of_one,
        "watched_loss",
        "never weigh more than 0.5 together",
    ),
    "labels that don't count": (
        SeenLoss,
        fields(missing=6),
        "watched_loss",
        "6 of 30 labelled positions don't count",
    ),
    "workers that draw alike": (
        SeenLoaderWorker,
        fields(used=("torch", "numpy")),
        "watched_batches",
        "the same numbers from numpy",
    ),
    "autocast for another device": (
        SeenPrecision,
        fields(entered=("cuda:bfloat16",)),
        "watched_precision",
        "bfloat16 was asked for",
    ),
    "mixed precision that isn't": (
        SeenPrecision,
        fields(asked="bf16"),
        "watched_precision",
        "all matrix products are in float32",
    ),
    "a scaler that scales nothing": (
        SeenStep,
        fields(scaler=replace(SCALED, scaled_loss=False)),
        "watched_precision",
        "the loss wasn't scaled",
    ),
    "clipping before unscaling": (
        SeenStep,
        fields(scaler=UNIT, clips=(replace(CLIP, scaled=True),)),
        "watched_precision",
        "call scaler.unscale_(optimizer) first",
    ),
    "gradients that vanish": (
        SeenStep,
        fields(scaler=UNIT, zero_gradient=4),
        "watched_precision",
        "too small for float16",
    ),
    "evaluation mode is left on": (
        SeenStep,
        _from(2, training=0.0),
        "watched_mode",
        "from step 3 on, the model trains in evaluation mode",
    ),
    "never train()": (SeenStep, fields(training=0.0), "watched_mode", "call model.train()"),
    "a part in evaluation mode": (
        SeenStep,
        _from(2, dropouts_off=1),
        "watched_mode",
        "1 dropout is in evaluation mode",
    ),
    "a checkpoint from the start": (
        SeenSaved,
        fields(differing=4, as_at_start=4, differing_names=("a",)),
        "watched_checkpoint",
        "4 saved tensors are as they were at the start: a",
    ),
}


def _watching(run: Run, *, ranks: int = 1) -> Run:
    together = None if ranks == 1 else ranks
    processes = [honest_process(None if together is None else rank, ranks) for rank in range(ranks)]
    return run.configured(recipe={"owes": ("process",)}, watch={}).leaving(watched=tuple(processes))


@pytest.fixture
def two(run: Run) -> Run:
    """Two processes that train together."""
    return _watching(run, ranks=2)


def _with(run: Run, kind: type[Any], change: Change, *, rank: int | None = None) -> Run:
    """Change records of one process, or of all."""
    return run.leaving(
        watched=tuple(
            changed(one, kind, change) if rank in (None, one.rank) else one
            for one in run.evidence.watched
        )
    )


def test_an_honest_run_passes(watching: Run, two: Run) -> None:
    """Every check of the group has something to say of it, but that of several processes."""
    group = {check.name for check in registry().in_group("watch")}
    for run, silent in ((watching, {"watched_ranks", "watched_memory_growth"}), (two, set())):
        verdicts = {name: one for name, one in run.verdicts().items() if name in group}
        assert {one.outcome for one in verdicts.values()} == {"passed"}, run.verdicts()
        assert group - set(verdicts) <= silent | {"watched_memory_growth"}


@pytest.mark.parametrize("fault", PLANTED)
def test_each_fault_fails_its_check(watching: Run, fault: str) -> None:
    """And no other one."""
    kind, change, name, words = PLANTED[fault]
    run = _with(watching, kind, change)
    assert run.failed() == {name}
    assert words in run.verdicts()[name].message


def test_what_is_not_watched_is_not_judged(watching: Run) -> None:
    """The group is owed where it was asked for."""
    names = watching.configured(watch={}).verdicts()
    bare = replace(watching, config=watching.config.model_copy(update={"watch": None}))
    assert not [name for name in bare.verdicts() if name.startswith("watched")]
    assert [name for name in names if name.startswith("watched")]


def test_nothing_to_watch(watching: Run) -> None:
    """Each way in which there is nothing says what was seen instead."""
    none = watching.leaving(watched=())
    assert none.failed() == {"watched"}
    assert "no process of the command imported PyTorch" in none.verdicts()["watched"].message
    loaded = none.recording(LibraryLoaded("libtorch", loaded=True))
    assert "-I or -E" in loaded.verdicts()["watched"].message
    idle = _with(watching, SeenStep, lambda _: None)
    assert (
        "train.py imported PyTorch and made 10 forward passes" in idle.verdicts()["watched"].message
    )


def test_what_was_switched_off(watching: Run) -> None:
    """What can't be looked into is told; a probe that fell over is a warning; neither decides."""
    (process,) = watching.evidence.watched
    honest = SwitchedOff("update", "Adafactor's formula isn't known")
    fallen = SwitchedOff("batch", "KeyError: 'x'", "batches.py:10", is_error=True)
    for record, outcome in ((honest, "passed"), (fallen, "warned")):
        seen = replace(process, records=(*process.records, record))
        verdict = watching.leaving(watched=(seen,)).verdicts()["watched"]
        assert verdict.outcome == outcome
        assert record.reason in verdict.message
    torn = watching.leaving(watched=(replace(process, unreadable=2),))
    assert torn.verdicts()["watched"].outcome == "warned"


# What stops being counted where a part falls over, as a record that would fail, and whose check.
FALLEN: dict[str, tuple[str, type[Any], Change]] = {
    "schedule": ("watched_schedule", SeenScheduler, fields(calls=0)),
    "zero": ("watched_zeroed", SeenStep, fields(kept=4, zeroed=0)),
    "clipping": ("watched_gradient", SeenGradient, fields(due=1.0)),
    "update": ("watched_update", SeenUpdate, fields(error=1.0)),
    "weights": ("watched_moved", SeenMoved, fields(moved=0)),
    "batch": ("watched_batches", SeenBatch, fields(digests=("0", "0"))),
    "models": ("watched_mode", SeenStep, fields(dropouts_off=2)),
    "loss": ("watched_labels", SeenLoss, fields(targets_next=0, targets_same=24)),
    "optimizer": ("watched_learning_rate", SeenStep, fields(learning_rates=(0.0,))),
}


@pytest.mark.parametrize("part", FALLEN)
def test_a_part_that_fell_over_proves_nothing(watching: Run, part: str) -> None:
    """What the probe didn't get to count is no error of the training."""
    name, kind, change = FALLEN[part]
    wrong = _with(watching, kind, change)
    assert wrong.verdicts()[name].outcome != "passed"
    (process,) = wrong.evidence.watched
    off = SwitchedOff(part, "KeyError: 'x'", "file.py:10", is_error=True)
    fallen = wrong.leaving(watched=(replace(process, records=(*process.records, off)),))
    assert name not in fallen.verdicts()
    assert fallen.verdicts()["watched"].outcome == "warned"


def test_where_all_has_to_be_looked_at(watching: Run) -> None:
    """A probe that fell over fails then; what can't be looked into by its nature doesn't."""
    (process,) = watching.evidence.watched
    strict = watching.configured(watch={"strict": True})
    assert strict.failed() == set()
    for is_error, failed in ((False, set()), (True, {"watched"})):
        record = SwitchedOff("batch", "KeyError: 'x'", "batches.py:10", is_error=is_error)
        seen = replace(process, records=(*process.records, record))
        assert strict.leaving(watched=(seen,)).failed() == failed
        assert watching.leaving(watched=(seen,)).failed() == set()


def test_the_last_step_that_was_audited_is_told(watching: Run) -> None:
    """Where more follow; where it is the very last, nothing needs to be said."""
    assert watching.verdicts()["watched"].message == ""
    early = _with(watching, SeenStep, lambda one: replace(one, audited=one.step < 2))
    assert early.verdicts()["watched"].message == "the last step that was audited is 2 of 5"


def test_a_run_that_failed_is_still_judged_by_what_was_seen(watching: Run) -> None:
    """A loop that raises in the middle, or is killed, has left evidence until then."""
    killed = _with(watching, ProbeEnded, lambda _: None).ending(code=None, signal="SIGKILL")
    assert killed.failed() == {"exit"}
    assert "watched_gradient" in killed.verdicts()
    assert _with(killed, SeenGradient, fields(scale=0.8)).failed() == {"exit", "watched_gradient"}


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
        _of_pass(0, weight_least=1 / 96, weight_most=1 / 96, weight_sum=0.5, counted=48),
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
        "while others had yet to come",
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
        watching = _with(watching, SeenLoss, lambda _: None)
    verdicts = _with(watching, kind, change).verdicts()
    assert {one.name for one in verdicts.values() if one.outcome != "passed"} == {name}
    assert verdicts[name].outcome == "warned"
    assert words in verdicts[name].message


# A fault of a model, and what is left to see of it once the model is gone.
GONE: dict[str, tuple[type[Any], Change, Change]] = {
    "watched_trainable": (
        SeenCoverage,
        fields(missing=2, missing_names=("head",)),
        fields(trainable=0, missing=0),
    ),
    "watched_moved": (
        SeenMoved,
        fields(moved=3, unmoved_names=("norm",)),
        fields(trained=0, moved=0, frozen=0),
    ),
}


@pytest.mark.parametrize("name", GONE)
def test_a_model_that_is_gone_when_the_process_ends(watching: Run, name: str) -> None:
    """What was seen of it before counts: a function that trained has returned by then."""
    kind, fault, gone = GONE[name]
    (process,) = watching.evidence.watched
    faulty = changed(process, kind, fault)
    at_exit = replace(faulty, records=(*faulty.records, *map(gone, faulty.all(kind))))
    assert watching.leaving(watched=(at_exit,)).failed() == {name}


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


def test_the_device_that_is_asked_for(watching: Run) -> None:
    """As a spec or an option names it."""
    assert watching.configured(watch={"device": "cpu"}).failed() == set()
    asked = watching.configured(watch={"device": "cuda"})
    assert asked.failed() == {"watched_device"}


# What is planted in the second of two processes, or in both (None).
APART: dict[str, tuple[type[Any], int | None, Change, str, str]] = {
    "weights that part": (SeenWeights, 1, fields(weights="x"), "watched_ranks", "weights differ"),
    "gradients that aren't averaged": (
        SeenWeights,
        1,
        fields(gradients="x", weights="y"),
        "watched_ranks",
        "likely the model isn't wrapped",
    ),
    "what isn't sharded": (
        SeenWeights,
        1,
        fields(whole=False, replicated=2, replicated_weights="x", weights="y"),
        "watched_ranks",
        "weights that aren't sharded differ",
    ),
    "the same rows": (
        SeenBatch,
        None,
        lambda one: replace(one, digests=tuple(row[4:] for row in one.digests)),
        "watched_batches",
        "all got the same rows",
    ),
    "gradients that are summed": (
        SeenGradient,
        None,
        lambda one: replace(one, reached=tuple(2 * value for value in one.reached)),
        "watched_gradient",
        "is 2 times the sum",
    ),
}


@pytest.mark.parametrize("fault", APART)
def test_faults_between_processes(two: Run, fault: str) -> None:
    """Each fails its own check."""
    kind, rank, change, name, words = APART[fault]
    run = _with(two, kind, change, rank=rank)
    assert run.failed() == {name}
    assert words in run.verdicts()[name].message


def test_processes_that_know_nothing_of_each_other(two: Run) -> None:
    """Several were started to train together, and each trains alone."""
    apart = _with(two, SeenWeights, fields(backend=""))
    apart = _with(apart, SeenWeights, fields(weights="x", gradients="y"), rank=1)
    assert apart.failed() == {"watched_ranks"}
    assert "each trains alone" in apart.verdicts()["watched_ranks"].message


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
    assert not _with(watching, *HONEST[kind]).failed()


@pytest.mark.parametrize("each", [1.0, 1 / 24])
def test_a_sum_that_is_divided_afterwards(watching: Run, each: float) -> None:
    """Some loops divide gradients by the tokens of a step, or by its micro-batches, by hand."""
    weights = {"weight_least": each, "weight_most": each, "weight_sum": 24 * each}
    run = _with(watching, SeenLoss, fields(**weights))
    by_hand = _with(run, SeenGradient, fields(scale=0.4 / (48 * each)))
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

    run = _with(_with(watching, SeenLoss, scaled), SeenStep, fields(scaler=SCALED))
    assert run.verdicts()["watched_loss"].outcome == "passed"
