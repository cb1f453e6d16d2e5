"""Losses: logged at all, finite, within bounds, true at the first step, and near the floor."""

from __future__ import annotations

import math

from tunematrix.checks.figures import logged_error, relative, severity, tolerance
from tunematrix.checks.verdict import Claim, Verdict, decide, listed, missing, within
from tunematrix.evidence.events import (
    Evaluation,
    EvaluationPasses,
    LoggedEvaluation,
    LoggedStep,
    StepLoss,
)
from tunematrix.evidence.evidence import Evidence

LOSS_TOLERANCE = {"float32": 2e-5, "bfloat16": 1e-3, "float16": 1e-3}
"""Relative; half precision rounds the logits. Over 20 seeds on a CPU 3e-7 was the worst, in half
precision 3e-4, with MLX."""


def steps_logged(evidence: Evidence, claim: Claim) -> Verdict:
    """As many training lines as asked for were logged, and each that the settings ask for."""
    count = len(evidence.all(LoggedStep))
    wanted = claim.spec.min_steps_logged
    every, steps = int(claim.train["logging_steps"]), int(claim.train["max_steps"])
    lost = {*range(every, steps + 1, every)} - {step for step, _ in logged_losses(evidence)}
    cause = (
        f"train.max_steps={steps} is below train.logging_steps={every}, so no line is ever "
        "written: raise the one or lower the other"
        if steps < every
        else f"training was to log every {every} of {steps} steps and didn't after "
        f"{listed([str(step) for step in sorted(lost)]) or 'any'}; it ended early, its log wasn't "
        "read, or lost lines"
    )
    due = max(wanted, steps // every)
    ok = count >= wanted and not lost
    return decide("steps_logged", ok, count, f">= {due}", cause, unit="lines")


def finite_loss(evidence: Evidence, claim: Claim) -> Verdict | None:
    """No logged loss is nan or infinite."""
    if not claim.spec.loss.no_nan:
        return None
    losses = logged_losses(evidence)
    if not losses:
        trains = claim.option("recipe").get("trains")
        return missing("finite_loss", "a logged loss") if trains else None
    bad = [(step, loss) for step, loss in losses if not math.isfinite(loss)]
    first = f"step {bad[0][0]} logged {bad[0][1]}" if bad else ""
    message = f"{first}; likely an overflow in half precision or a learning rate that is too high"
    return decide("finite_loss", not bad, len(bad), "0", message, unit="lines")


def final_loss(evidence: Evidence, claim: Claim) -> Verdict | None:
    """The last logged loss is within the spec's bounds."""
    bounds = claim.spec.loss
    cause = "likely too few steps, another learning rate, or other labels or data than before"
    return _logged("final_loss", evidence, -1, bounds.final_min, bounds.final_max, cause)


def first_logged_loss(evidence: Evidence, claim: Claim) -> Verdict | None:
    """The first logged loss is within the spec's bounds: a fall from a bad scale looks like one."""
    bounds = claim.spec.loss
    cause = "likely a base that loaded as something else, or a loss over another divisor"
    return _logged("first_logged_loss", evidence, 0, bounds.first_min, bounds.first_max, cause)


def first_loss(evidence: Evidence, claim: Claim) -> Verdict | None:
    """The loss that trains is the cross-entropy of the batch, computed from logits by us."""
    if int(claim.train["logging_steps"]) != 1:
        return None
    computed, losses = _computed(evidence).get(0), logged_losses(evidence)
    if computed is None or not losses or losses[0][0] != 1:
        return missing("first_loss", "the first step's loss")
    logged = losses[0][1]
    error = logged_error(logged, computed.loss)
    bound = tolerance(LOSS_TOLERANCE, (claim.option("precision")["compute"],))
    message = (
        f"the first step logged {logged:.5g}, its batch's cross-entropy is {computed.loss:.5g} "
        f"over {computed.tokens} tokens; likely a wrong divisor or wrong labels"
    )
    return decide("first_loss", error <= bound, error, f"<= {bound:g}", message, unit="relative")


def step_losses(evidence: Evidence, claim: Claim) -> Verdict | None:
    """The losses of later steps are the cross-entropy of their batches as well."""
    if int(claim.train["logging_steps"]) != 1 or int(claim.train["max_steps"]) == 1:
        return None
    logged = dict(logged_losses(evidence))
    later = [one for one in _computed(evidence).values() if one.step]
    if not later or any(one.step + 1 not in logged for one in later):
        return missing("step_losses", "losses of later steps, logged and recomputed")
    errors = [(logged_error(logged[one.step + 1], one.loss), one) for one in later]
    error, worst = max(errors, key=lambda found: severity(found[0]))
    bound = tolerance(LOSS_TOLERANCE, (claim.option("precision")["compute"],))
    message = (
        f"step {worst.step} logged {logged[worst.step + 1]:.5g}, its batches' cross-entropy is "
        f"{worst.loss:.5g} over {worst.tokens} tokens; likely a loss of other batches or weights "
        "than those of the step, or one that is averaged otherwise"
    )
    return decide("step_losses", error <= bound, error, f"<= {bound:g}", message, unit="relative")


def gap_closed(evidence: Evidence, claim: Claim) -> Verdict | None:
    """Training closed its share of the gap between the base's loss and the exact floor."""
    bounds = claim.spec.gap_closed
    if bounds is None:
        return None
    before, after = _evaluation(evidence, "before"), _evaluation(evidence, "after")
    if before is None or after is None:
        return missing("gap_closed", "the loss before and after training")
    message = (
        f"held-out loss went from {before.loss:.4f} to {after.loss:.4f} nats/token over a floor of "
        f"{after.floor:.4f}; likely the wrong parameters, labels or learning rate"
    )
    share = _share(before, after)
    return within("gap_closed", share, bounds.min, bounds.max, message, unit="share")


def measured_gap(evidence: Evidence) -> float | None:
    """Return (before - after) / (before - floor), or None where it wasn't measured."""
    before, after = _evaluation(evidence, "before"), _evaluation(evidence, "after")
    return None if before is None or after is None else _share(before, after)


def evaluations(evidence: Evidence, claim: Claim) -> Verdict | None:
    """The trainer evaluated after each of the steps that it was asked to, and numbers came out."""
    every, steps = int(claim.train.get("eval_steps", 0)), int(claim.train["max_steps"])
    found = {e.step: e.loss for e in evidence.all(LoggedEvaluation)}
    if not found:
        return missing("evaluations", "an evaluation") if every else None
    wanted = set(range(every, steps + 1, every)) if every else set()
    # Some releases of transformers evaluate after the last step as well.
    extra = found.keys() - wanted - ({steps} if every else set())
    message = (
        f"it evaluated after steps {sorted(found)}, with losses {[*found.values()]}; its "
        "evaluation strategy was ignored, or its loss isn't finite"
    )
    ok = wanted <= found.keys() and not extra and all(map(math.isfinite, found.values()))
    bound = f"{len(wanted)} or more, each finite"
    return decide("evaluations", ok, len(found), bound, message, unit="evaluations")


def evaluation_loss(evidence: Evidence, claim: Claim) -> Verdict | None:
    """Each evaluation's loss is the cross-entropy of the held-out rows, in evaluation mode."""
    logged = evidence.all(LoggedEvaluation)
    if not logged and not int(claim.train.get("eval_steps", 0)):
        return None
    seen = {passes.step: passes for passes in evidence.all(EvaluationPasses)}
    if not logged or any(one.step not in seen or not seen[one.step].rows for one in logged):
        return missing("evaluation_loss", "what entered the model in each evaluation")
    errors = [
        min(
            (relative(one.loss, own) for own in (seen[one.step].by_rows, seen[one.step].by_tokens)),
            key=severity,
        )
        for one in logged
    ]
    error, passes = max(errors, key=severity), seen.values()
    odd = sum(one.rows - one.faithful for one in passes)
    left = 0 if claim.option("data")["packing"] else sum(one.held_out > one.rows for one in passes)
    training = sum(one.training for one in passes)
    bound = tolerance(LOSS_TOLERANCE, (claim.option("precision")["compute"],))
    message = (
        f"losses are off by {error:.2g}, {odd} rows aren't held out or labelled otherwise, "
        f"{left} evaluations left rows out, {training} passes were in training mode; likely "
        "dropout that is left on, another mean, or rows that were trained on"
    )
    if wrong := odd + left + training:
        return decide("evaluation_loss", False, wrong, "0", message, unit="rows and passes")
    ok = error <= bound
    return decide("evaluation_loss", ok, error, f"<= {bound:g}", message, unit="relative")


def logged_losses(evidence: Evidence) -> list[tuple[int, float]]:
    """Return (step from 1, nats per token) of each logged line that has a loss."""
    return [(s.step, s.loss) for s in evidence.all(LoggedStep) if s.loss is not None]


def _share(before: Evaluation, after: Evaluation) -> float:
    gap = before.loss - after.floor
    # No honest loss is at or below the floor; where one is, there is no share to speak of.
    return (before.loss - after.loss) / gap if gap > 0 else math.nan


def _evaluation(evidence: Evidence, when: str) -> Evaluation | None:
    found = [e for e in evidence.all(Evaluation) if e.when == when]
    return found[-1] if found else None


def _computed(evidence: Evidence) -> dict[int, StepLoss]:
    return {one.step: one for one in evidence.all(StepLoss)}


def _logged(
    name: str, evidence: Evidence, position: int, low: float | None, high: float | None, cause: str
) -> Verdict | None:
    if low is None and high is None:
        return None
    losses = logged_losses(evidence)
    if not losses:
        return missing(name, "a logged loss")
    step, loss = losses[position]
    message = f"step {step} logged {loss:.4g} nats per token; {cause}"
    return within(name, loss, low, high, message, unit="nats")
