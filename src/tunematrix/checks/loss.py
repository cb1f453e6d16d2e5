"""Losses: true at each step and in each evaluation, and near the floor in the end."""

from __future__ import annotations

import math
from collections.abc import Iterator, Set

from tunematrix.checks.arithmetic import logged_error, relative, severity, tolerance
from tunematrix.checks.bound import AtLeast, AtMost, Exactly, between
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by, missing
from tunematrix.evidence import figures
from tunematrix.evidence.events import (
    Continuity,
    Evaluation,
    EvaluationPasses,
    LoggedEvaluation,
    LoggedStep,
    MicroBatch,
    StepLoss,
)
from tunematrix.evidence.evidence import Evidence
from tunematrix.evidence.figures import logged_losses

LOSS_TOLERANCE = {"float32": 2e-5, "bfloat16": 1e-3, "float16": 1e-3}
"""Relative; half precision rounds the logits. Over 20 seeds on a CPU 3e-7 was the worst, in half
precision 3e-4, with MLX."""


@check(
    name="evaluations",
    group="training",
    reads=(LoggedEvaluation,),
    unit="evaluations",
    bug="an evaluation strategy that is ignored; losses that divide by zero tokens",
)
def evaluations(evidence: Evidence, claim: Claim) -> Judgement | None:
    """The trainer evaluates after each of the configured steps, with finite results.

    Reads the trainer's own evaluations in its log. Fails when they aren't after every
    `train.eval_steps` steps (and the last), or when a result isn't finite.
    """
    every, steps = claim.config.train.eval_steps, claim.config.train.max_steps
    losses = {e.step: e.loss for e in evidence.all(LoggedEvaluation)}
    if not losses:
        return missing("an evaluation") if every else None
    wanted = set(range(every, steps + 1, every)) if every else set()
    # Some releases of transformers evaluate after the last step as well.
    extra = losses.keys() - wanted - ({steps} if every else set())
    message = (
        f"it evaluated after steps {sorted(losses)}, with losses {[*losses.values()]}; its "
        "evaluation strategy was ignored, or its loss isn't finite"
    )
    as_asked = wanted <= losses.keys() and not extra and all(map(math.isfinite, losses.values()))
    bound = AtLeast(len(wanted), note="each finite")
    return judge_by(bound, len(losses), message, provided=as_asked)


@check(
    name="best_loaded",
    group="training",
    reads=(LoggedEvaluation, Continuity),
    unit="step",
    bug=(
        "a best checkpoint that isn't loaded at the end; the one with the largest loss, or the "
        "last; adapters that a loader passes over"
    ),
)
def best_loaded(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Training that is to end with its best checkpoint ends with that one.

    Reads the trainer's evaluations, and after which steps what trains was, to the bit, as it is in
    the end. Fails when the step with the lowest loss isn't one of them. Owed where
    `train.load_best` asks for it.
    """
    if not claim.config.train.load_best:
        return None
    seen, logged = evidence.one(Continuity), evidence.all(LoggedEvaluation)
    if seen is None or seen.ends_as is None or not logged:
        return missing("evaluations, and what training ended with")
    best = min(logged, key=lambda one: severity(one.loss))
    ends = seen.ends_as[-1] if seen.ends_as else 0
    measured = best.step if best.step in seen.ends_as else ends
    message = (
        f"the evaluation after step {best.step} has the lowest loss, {best.loss:.5g}, and training "
        f"ended with {f'what step {ends} left' if ends else 'weights that no step has left'}; "
        "likely the best checkpoint was chosen by another measure, or wasn't loaded whole"
    )
    return judge_by(Exactly(best.step), measured, message)


@check(
    name="first_loss",
    group="texts",
    reads=(
        LoggedStep,
        StepLoss,
    ),
    unit="relative",
    bug=(
        "a loss averaged over the wrong count: too low by rows/tokens "
        "([transformers#46204](https://github.com/huggingface/transformers/issues/46204)), or "
        "by micro-batch "
        "([transformers#34191](https://github.com/huggingface/transformers/issues/34191))"
    ),
)
def first_loss(evidence: Evidence, claim: Claim) -> Judgement | None:
    """The first logged loss is the cross-entropy of its batch, recomputed from the logits.

    Reads the first logged loss, and the cross-entropy of that step's batch, recomputed from its
    logits. Fails when they differ by more than rounding.
    """
    if claim.config.train.logging_steps != 1:
        return None
    computed, losses = _computed(evidence).get(0), logged_losses(evidence)
    if computed is None or not losses or losses[0][0] != 1:
        return missing("the first step's loss")
    logged = losses[0][1]
    error = logged_error(logged, computed.loss)
    bound = AtMost(tolerance(LOSS_TOLERANCE, (claim.config.precision.compute,)))
    message = (
        f"the first step logged {logged:.5g}, its batch's cross-entropy is {computed.loss:.5g} "
        f"over {computed.tokens} tokens; likely a wrong divisor or wrong labels"
    )
    return judge_by(bound, error, message)


@check(
    name="step_losses",
    group="texts",
    reads=(
        LoggedStep,
        StepLoss,
        MicroBatch,
    ),
    unit="relative",
    bug=(
        "losses that lag behind, are averaged over other steps or over a rounded number of tokens, "
        "or drift from the trained loss"
    ),
)
def step_losses(evidence: Evidence, claim: Claim) -> Judgement | None:
    """The losses of later steps are the cross-entropy of their batches, too.

    Reads the logged losses of the later steps that `gradient` reads, and the cross-entropy of
    their batches; of all other steps the sum that the passes themselves gave, over the tokens that
    count (one process, and TRL's own head). Fails when they differ by more than rounding.
    """
    if claim.config.train.logging_steps != 1 or claim.config.train.max_steps == 1:
        return None
    logged = dict(logged_losses(evidence))
    later = [one for one in _computed(evidence).values() if one.step]
    if not later or any(one.step + 1 not in logged for one in later):
        return missing("losses of later steps, logged and recomputed")
    others = _passed(evidence, claim, {0, *(one.step for one in later)})
    # `finite_loss` judges those that aren't.
    finite = {step for step, loss in logged.items() if math.isfinite(loss)}
    known = [*later, *(one for one in others if one.step + 1 in finite)]
    errors = [(logged_error(logged[one.step + 1], one.loss), one) for one in known]
    error, worst = max(errors, key=lambda row: severity(row[0]))
    bound = AtMost(tolerance(LOSS_TOLERANCE, (claim.config.precision.compute,)))
    message = (
        f"step {worst.step} logged {logged[worst.step + 1]:.5g}, its batches' cross-entropy is "
        f"{worst.loss:.5g} over {worst.tokens} tokens; likely a loss of other batches or weights "
        "than those of the step, or one that is averaged otherwise"
    )
    return judge_by(bound, error, message)


@check(
    name="evaluation_loss",
    group="texts",
    reads=(
        LoggedEvaluation,
        EvaluationPasses,
    ),
    unit="relative",
    bug=(
        "dropout that is left on, losses averaged over another count, evaluation on the "
        "training data, or in fewer bits than training"
    ),
)
def evaluation_loss(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Each evaluation's loss is the cross-entropy of the held-out rows, in evaluation mode.

    Reads the rows of the evaluations, the model's mode, and the cross-entropy of the rows in the
    arithmetic of the training passes (PyTorch), as a mean over batches by rows or by tokens. Fails
    when it isn't the logged loss, when a row isn't held out, has other labels or was left out, or
    when the model was in training mode.
    """
    logged = evidence.all(LoggedEvaluation)
    if not logged and not claim.config.train.eval_steps:
        return None
    seen = {passes.step: passes for passes in evidence.all(EvaluationPasses)}
    if not logged or any(one.step not in seen or not seen[one.step].rows for one in logged):
        return missing("what entered the model in each evaluation")
    errors = [
        min(
            (relative(one.loss, own) for own in (seen[one.step].by_rows, seen[one.step].by_tokens)),
            key=severity,
        )
        for one in logged
    ]
    error, passes = max(errors, key=severity), seen.values()
    odd = sum(one.rows - one.faithful for one in passes)
    left = 0 if claim.config.data.packing else sum(one.held_out > one.rows for one in passes)
    training = sum(one.training for one in passes)
    bound = AtMost(tolerance(LOSS_TOLERANCE, (claim.config.precision.compute,)))
    message = (
        f"losses are off by {error:.2g}, {odd} rows aren't held out or labelled otherwise, "
        f"{left} evaluations left rows out, {training} passes were in training mode; likely "
        "dropout that is left on, another mean, or rows that were trained on"
    )
    if wrong := odd + left + training:
        return judge_by(Exactly(0), wrong, message, unit="rows and passes")
    return judge_by(bound, error, message)


@check(
    name="gap_closed",
    group="training",
    reads=(Evaluation,),
    unit="of the gap",
    bound_in="gap_closed",
    bug="a loss that falls while the wrong thing is learned",
)
def gap_closed(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Training closes enough of the gap between the base's loss and the entropy floor.

    Reads the held-out loss before and after training, and the exact entropy floor of the same
    stories. Fails when the share of the gap that was closed is outside `gap_closed`.
    """
    bounds = claim.spec.gap_closed
    if bounds is None:
        return None
    before, after = (figures.evaluation(evidence, when) for when in ("before", "after"))
    share = figures.gap_closed(evidence)
    if before is None or after is None or share is None:
        return missing("the loss before and after training")
    message = (
        f"the loss on held-out stories went from {before.loss:.4f} to {after.loss:.4f} nats per "
        f"token; the lowest possible is {after.floor:.4f}; likely the wrong parameters, labels or "
        "learning rate"
    )
    return judge_by(between(bounds.min, bounds.max), share, message)


def _passed(evidence: Evidence, claim: Claim, known: Set[int]) -> Iterator[StepLoss]:
    """Yield the mean over each other step's tokens, where each of its passes gave its sum."""
    train = claim.config.train
    if claim.config.launcher.processes > 1 or train.label_smoothing:
        return
    steps: dict[int, list[MicroBatch]] = {}
    for one in evidence.all(MicroBatch):
        steps.setdefault(one.step, []).append(one)
    for step in steps.keys() - known:
        passes = steps[step]
        sums = [one.nats for one in passes if one.nats is not None]
        tokens = sum(one.counted for one in passes)
        if len(sums) == len(passes) == train.accumulation and tokens:
            yield StepLoss(step, sum(sums) / tokens, tokens)


def _computed(evidence: Evidence) -> dict[int, StepLoss]:
    return {one.step: one for one in evidence.all(StepLoss)}
