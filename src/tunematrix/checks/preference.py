"""Preference training: DPO's loss, gradient and reference by definition, and its effect."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tunematrix.checks.arithmetic import logged_error, relative, severity, tolerance
from tunematrix.checks.bound import AtMost, Between
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by, missing, unbounded
from tunematrix.evidence.events import (
    Compute,
    LoggedPreference,
    LoggedStep,
    Preference,
    PreferenceLoss,
)
from tunematrix.evidence.evidence import Evidence
from tunematrix.evidence.figures import logged_losses

EVEN_TOLERANCE = 0.04
"""From one half, over 64 pairs. Measured 0.0306 to 0.0326 over 13 seeds: what training the base
left of it. Of fewer pairs, chance has a larger share."""
EVEN_PAIRS = 64
EVEN_BASE = "toyworld://base"
"""The one base that has learned to prefer nothing: others do, by chance or by what they learned."""
FIRST_LOSS_TOLERANCE, FIRST_LOSS_OF_DORA_OVER_NF4 = 1e-6, 2e-3
"""Relative. Measured 3e-9 in each precision: a policy that is its own reference rounds alike. DoRA
divides by the norm of weights, and bitsandbytes rounds the scales of nf4 once more: 3.9e-4."""
LOSS_TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-2, "float16": 1e-3}
"""Relative. Measured up to 1.3e-6, 1.7e-3 (1e-4 where only adapters are bfloat16), 6e-8."""
REFERENCE_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.3, "float16": 1e-2}
"""Nats per completion. Measured up to 1.6e-5, 0.032 (3e-3 where only adapters are), 3e-6."""
GRADIENT_TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2, "float16": 1e-2}
"""Relative. Measured up to 1e-7, 3.1e-3 and 3.1e-3: what is small gets lost in float16, and over
several micro-batches more of it."""


@check(
    name="dpo_first_loss",
    group="preferences",
    reads=(LoggedStep,),
    unit="relative",
    bug="a reference that isn't the model before training, a loss with another divisor",
)
def dpo_first_loss(evidence: Evidence, claim: Claim) -> Judgement | None:
    """The first loss is ln 2: an untrained policy equals its reference and prefers nothing.

    Reads the first logged loss. Fails when it isn't ln 2.
    """
    if _logs_seldom(claim):
        return None
    losses = logged_losses(evidence)
    if not losses or losses[0][0] != 1:
        return missing("the first step's loss")
    logged = losses[0][1]
    error = logged_error(logged, math.log(2))
    message = (
        f"the first step logged {logged:.6g} instead of {math.log(2):.6g}; likely a reference that "
        "isn't what training began with, or a loss over another divisor"
    )
    theory = claim.config.quantizer.theory
    rounding = None if theory is None else theory.rounding
    is_nf4 = rounding is not None and rounding.code == "nf4"
    rounds = is_nf4 and claim.config.method.name == "dora"
    allowed = FIRST_LOSS_OF_DORA_OVER_NF4 if rounds else FIRST_LOSS_TOLERANCE
    return judge_by(AtMost(allowed), error, message)


@check(
    name="dpo_loss",
    group="preferences",
    reads=(
        LoggedStep,
        PreferenceLoss,
        Compute,
    ),
    unit="relative",
    bug=(
        "another beta than the configured one, a reference that changes or was copied too "
        "late, scores of another model than the policy"
    ),
)
def dpo_loss(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Each recomputed step's loss is DPO's, of the policy against the untouched base.

    Reads the logged losses, and those recomputed from policy and base. Fails when they differ
    by more than rounding.
    """
    if _logs_seldom(claim):
        return None
    logged, audited = dict(logged_losses(evidence)), evidence.all(PreferenceLoss)
    if len(audited) < 2 or any(loss.step + 1 not in logged for loss in audited):
        return missing("losses of several steps, logged and recomputed")
    errors = [(logged_error(logged[loss.step + 1], loss.loss), loss) for loss in audited]
    error, worst = max(errors, key=lambda row: severity(row[0]))
    bound = AtMost(_allowed(LOSS_TOLERANCE, evidence, claim))
    message = (
        f"step {worst.step} logged {logged[worst.step + 1]:.5g}, the loss is {worst.loss:.5g}; "
        f"likely another beta than {claim.config.dpo.beta:g}, chosen and rejected the wrong "
        "way round, or a reference that moves"
    )
    return judge_by(bound, error, message)


@check(
    name="dpo_gradient",
    group="preferences",
    reads=(
        LoggedStep,
        PreferenceLoss,
        Compute,
    ),
    unit="relative",
    bug=(
        "gradients summed over micro-batches while the logged loss is right "
        "([trl#2615](https://github.com/huggingface/trl/issues/2615))"
    ),
)
def dpo_gradient(evidence: Evidence, claim: Claim) -> Judgement | None:
    """The first step's gradient has the norm of DPO's, over all its micro-batches.

    Reads the first gradient's norm as logged, and that of the recomputed loss over all
    micro-batches. Fails when they differ by more than rounding.
    """
    if _logs_seldom(claim):
        return None
    audited, logged = evidence.all(PreferenceLoss), evidence.all(LoggedStep)
    expected = next((loss.gradient_norm for loss in audited if loss.step == 0), None)
    measured = next((line.gradient_norm for line in logged if line.step == 1), None)
    if expected is None or measured is None:
        return missing("the first step's gradient, logged and recomputed")
    error = relative(measured, expected)
    bound = AtMost(_allowed(GRADIENT_TOLERANCE, evidence, claim))
    message = (
        f"the first step's gradient has a norm of {measured:.5g}, that of its loss {expected:.5g}; "
        "likely gradients that are summed over micro-batches, or scaled apart from the loss"
    )
    return judge_by(bound, error, message)


@check(
    name="dpo_reference",
    group="preferences",
    reads=(
        LoggedPreference,
        PreferenceLoss,
        Compute,
    ),
    unit="nats",
    bug="a reference that isn't the base, tokens of the prompt counted in the sums",
)
def dpo_reference(evidence: Evidence, claim: Claim) -> Judgement | None:
    """The trainer's reference gives the log-probabilities of the base.

    Reads the log-probabilities of policy and reference that the trainer logged, and the
    recomputed ones. Fails when they differ by more than rounding.
    """
    if _logs_seldom(claim):
        return None
    logged = {line.step - 1: line for line in evidence.all(LoggedPreference)}
    audited = evidence.all(PreferenceLoss)
    if len(audited) < 2 or any(loss.step not in logged for loss in audited):
        return missing("log-probabilities of several steps")
    beta = claim.config.dpo.beta
    errors = [(_reference_error(logged[loss.step], loss, beta), loss.step) for loss in audited]
    error, worst = max(errors, key=lambda row: severity(row[0]))
    bound = AtMost(_allowed(REFERENCE_TOLERANCE, evidence, claim))
    message = (
        f"at step {worst} policy or reference is {error:.3g} nats off what model and base give the "
        "batch; likely a reference that moves or isn't the base, or tokens of the prompt counted"
    )
    return judge_by(bound, error, message)


@check(
    name="preference",
    group="preferences",
    reads=(Preference,),
    unit="share",
    bug="chosen and rejected swapped, another base, training that doesn't generalise",
)
def preference(evidence: Evidence, claim: Claim) -> Judgement:
    """Training moves the model's choice to the share that the spec asks for, from even odds.

    Reads the share of the preferred story in the model's probabilities of held-out pairs,
    before and after training. Fails when it is outside `preference` after, or, of the toy world's
    own base, wasn't one half before.
    """
    seen = {event.when: event for event in evidence.all(Preference)}
    if {"before", "after"} - seen.keys():
        return missing("the preference before and after training")
    bounds = claim.spec.preference
    if bounds is None:
        return unbounded("preference")
    before, after = seen["before"].rate, seen["after"].rate
    low, high = bounds.min or 0.0, 1.0 if bounds.max is None else bounds.max
    message = (
        f"the preferred story went from {before:.1%} to {after:.1%} over {seen['after'].pairs} "
        "pairs; likely another base, chosen and rejected the wrong way round, or another rate"
    )
    if claim.config.model.path != EVEN_BASE:
        return judge_by(Between(low, high), after, message, provided=math.isfinite(before))
    room = EVEN_TOLERANCE * math.sqrt(max(1.0, EVEN_PAIRS / max(seen["before"].pairs, 1)))
    bound = Between(low, high, note=f"from 0.5 within {room:.3g}")
    return judge_by(bound, after, message, provided=abs(before - 0.5) <= room)


def _reference_error(logged: LoggedPreference, audited: PreferenceLoss, beta: float) -> float:
    """Return the largest error of a mean log-probability, of policy or reference, in nats."""
    errors = (
        logged.chosen - audited.chosen,
        logged.rejected - audited.rejected,
        logged.chosen - logged.chosen_reward / beta - audited.reference_chosen,
        logged.rejected - logged.rejected_reward / beta - audited.reference_rejected,
    )
    return max((abs(error) for error in errors), key=severity)


def _allowed(table: Mapping[str, float], evidence: Evidence, claim: Claim) -> float:
    compute = evidence.one(Compute)
    trained = () if compute is None else compute.trainable
    return tolerance(table, (claim.config.precision.compute, *trained))


def _logs_seldom(claim: Claim) -> bool:
    """Whether a logged line is about several steps, so that none of them can be told."""
    return claim.config.train.logging_steps != 1
