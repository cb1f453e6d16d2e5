"""Preference training: DPO's loss, gradient and reference by definition, and what it brought."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tunematrix.checks.figures import logged_error, relative, severity, tolerance
from tunematrix.checks.loss import logged_losses
from tunematrix.checks.verdict import Claim, Verdict, decide, missing, unbounded
from tunematrix.evidence.events import (
    Compute,
    LoggedPreference,
    LoggedStep,
    Preference,
    PreferenceLoss,
)
from tunematrix.evidence.evidence import Evidence

EVEN_TOLERANCE = 0.04
"""From one half. Measured 0.0306 to 0.0326 over 13 seeds: what training the base left of it."""
FIRST_LOSS_TOLERANCE = 1e-6
"""Relative. Measured 3e-9 in each precision: a policy that is its own reference rounds alike."""
LOSS_TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-2, "float16": 1e-3}
"""Relative. Measured up to 1.3e-6, 1.7e-3 (1e-4 where only adapters are bfloat16), 6e-8."""
REFERENCE_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.3, "float16": 1e-2}
"""Nats per completion. Measured up to 1.6e-5, 0.032 (3e-3 where only adapters are), 3e-6."""
GRADIENT_TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2, "float16": 1e-3}
"""Relative. Measured up to 1e-7, 3.1e-3 and 9e-6."""


def dpo_first_loss(evidence: Evidence, claim: Claim) -> Verdict | None:
    """The first loss is ln 2: a policy that is still its own reference prefers nothing."""
    if _logs_seldom(claim):
        return None
    losses = logged_losses(evidence)
    if not losses or losses[0][0] != 1:
        return missing("dpo_first_loss", "the first step's loss")
    logged = losses[0][1]
    error, bound = logged_error(logged, math.log(2)), FIRST_LOSS_TOLERANCE
    message = (
        f"the first step logged {logged:.6g} instead of {math.log(2):.6g}; likely a reference that "
        "isn't what training began with, or a loss over another divisor"
    )
    return decide("dpo_first_loss", error <= bound, error, f"<= {bound:g}", message,
                  unit="relative")  # fmt: skip


def dpo_loss(evidence: Evidence, claim: Claim) -> Verdict | None:
    """Each audited step's loss is DPO's, of the policy against the untouched base."""
    if _logs_seldom(claim):
        return None
    logged, audited = dict(logged_losses(evidence)), evidence.all(PreferenceLoss)
    if len(audited) < 2 or any(loss.step + 1 not in logged for loss in audited):
        return missing("dpo_loss", "losses of several steps, logged and recomputed")
    errors = [(logged_error(logged[loss.step + 1], loss.loss), loss) for loss in audited]
    error, worst = max(errors, key=lambda found: severity(found[0]))
    bound = _allowed(LOSS_TOLERANCE, evidence, claim)
    message = (
        f"step {worst.step} logged {logged[worst.step + 1]:.5g}, the loss is {worst.loss:.5g}; "
        f"likely another beta than {claim.option('dpo')['beta']:g}, chosen and rejected the wrong "
        "way round, or a reference that moves"
    )
    return decide("dpo_loss", error <= bound, error, f"<= {bound:g}", message, unit="relative")


def dpo_gradient(evidence: Evidence, claim: Claim) -> Verdict | None:
    """The first step's gradient has the norm of DPO's, taken over all its micro-batches."""
    if _logs_seldom(claim):
        return None
    audited, logged = evidence.all(PreferenceLoss), evidence.all(LoggedStep)
    expected = next((loss.gradient_norm for loss in audited if loss.step == 0), None)
    measured = next((line.gradient_norm for line in logged if line.step == 1), None)
    if expected is None or measured is None:
        return missing("dpo_gradient", "the first step's gradient, logged and recomputed")
    error, bound = relative(measured, expected), _allowed(GRADIENT_TOLERANCE, evidence, claim)
    message = (
        f"the first step's gradient has a norm of {measured:.5g}, that of its loss {expected:.5g}; "
        "likely gradients that are summed over micro-batches, or scaled apart from the loss"
    )
    return decide("dpo_gradient", error <= bound, error, f"<= {bound:g}", message,
                  unit="relative")  # fmt: skip


def dpo_reference(evidence: Evidence, claim: Claim) -> Verdict | None:
    """The trainer's reference gives each audited batch the log-probabilities of the base."""
    if _logs_seldom(claim):
        return None
    logged = {line.step - 1: line for line in evidence.all(LoggedPreference)}
    audited = evidence.all(PreferenceLoss)
    if len(audited) < 2 or any(loss.step not in logged for loss in audited):
        return missing("dpo_reference", "log-probabilities of several steps")
    beta = float(claim.option("dpo")["beta"])
    errors = [(_reference_error(logged[loss.step], loss, beta), loss.step) for loss in audited]
    error, worst = max(errors, key=lambda found: severity(found[0]))
    bound = _allowed(REFERENCE_TOLERANCE, evidence, claim)
    message = (
        f"at step {worst} policy or reference is {error:.3g} nats off what model and base give the "
        "batch; likely a reference that moves or isn't the base, or tokens of the prompt counted"
    )
    return decide("dpo_reference", error <= bound, error, f"<= {bound:g}", message, unit="nats")


def preference(evidence: Evidence, claim: Claim) -> Verdict:
    """Training moved the model's choice from even odds to where the spec wants it."""
    seen = {event.when: event for event in evidence.all(Preference)}
    if {"before", "after"} - seen.keys():
        return missing("preference", "the preference before and after training")
    bounds = claim.spec.preference
    if bounds is None:
        return unbounded("preference", "preference")
    before, after = seen["before"].rate, seen["after"].rate
    low, high = bounds.min or 0.0, 1.0 if bounds.max is None else bounds.max
    message = (
        f"the preferred story went from {before:.1%} to {after:.1%} over {seen['after'].pairs} "
        "pairs; likely another base, chosen and rejected the wrong way round, or another rate"
    )
    ok = abs(before - 0.5) <= EVEN_TOLERANCE and low <= after <= high
    bound = f"{low:g} to {high:g}, from 0.5 within {EVEN_TOLERANCE:g}"
    return decide("preference", ok, after, bound, message, unit="share")


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
    return tolerance(table, (claim.option("precision")["compute"], *trained))


def _logs_seldom(claim: Claim) -> bool:
    """Whether a logged line is about several steps, so that none of them can be told."""
    return int(claim.train["logging_steps"]) != 1
