"""Losses: logged at all, finite, within bounds, true at the first step, and near the floor."""

from __future__ import annotations

import math

from tunematrix.checks.verdict import Claim, Verdict, decide, missing
from tunematrix.evidence.evidence import Evidence
from tunematrix.evidence.events import Evaluation, FirstLoss, LoggedStep

FIRST_LOSS_TOLERANCE = {"float32": 2e-4, "bfloat16": 2e-2, "float16": 5e-3}
"""Relative. Logged losses keep four significant digits; half precision rounds the logits."""


def steps_logged(evidence: Evidence, claim: Claim) -> Verdict:
    """As many training lines as asked for were logged."""
    count = len(evidence.all(LoggedStep))
    wanted = claim.spec.min_steps_logged
    every, steps = int(claim.train["logging_steps"]), int(claim.train["max_steps"])
    cause = (
        f"train.max_steps={steps} is below train.logging_steps={every}, so no line is ever "
        "written: raise the one or lower the other"
        if steps < every
        else f"training was to log every {every} of {steps} steps"
    )
    return decide("steps_logged", count >= wanted, count, f">= {wanted}", cause, unit="lines")


def finite_loss(evidence: Evidence, claim: Claim) -> Verdict | None:
    """No logged loss is nan or infinite."""
    if not claim.spec.loss.no_nan:
        return None
    bad = [s for s in evidence.all(LoggedStep) if s.loss is not None and not math.isfinite(s.loss)]
    first = f"step {bad[0].step} logged {bad[0].loss}" if bad else ""
    message = f"{first}; likely an overflow in half precision or a learning rate that is too high"
    return decide("finite_loss", not bad, len(bad), "0", message, unit="lines")


def final_loss(evidence: Evidence, claim: Claim) -> Verdict | None:
    """The last logged loss is within the spec's bounds."""
    bounds = claim.spec.loss
    return _logged("final_loss", evidence, -1, bounds.final_min, bounds.final_max)


def first_logged_loss(evidence: Evidence, claim: Claim) -> Verdict | None:
    """The first logged loss is within the spec's bounds: a fall from a bad scale looks like one."""
    bounds = claim.spec.loss
    return _logged("first_logged_loss", evidence, 0, bounds.first_min, bounds.first_max)


def first_loss(evidence: Evidence, claim: Claim) -> Verdict | None:
    """The loss that trains is the cross-entropy of the batch, computed from logits by us."""
    if int(claim.train["logging_steps"]) != 1 or _has_dropout(claim):
        return None
    computed, logged = evidence.one(FirstLoss), evidence.all(LoggedStep)
    if computed is None or not logged or logged[0].loss is None:
        return missing("first_loss", "the first step's loss")
    error = abs(logged[0].loss - computed.loss) / computed.loss
    bound = FIRST_LOSS_TOLERANCE[claim.option("precision")["compute"]]
    message = (
        f"the first step logged {logged[0].loss:.5g}, its batch's cross-entropy is "
        f"{computed.loss:.5g} over {computed.tokens} tokens; likely a wrong divisor or wrong labels"
    )
    return decide("first_loss", error <= bound, error, f"<= {bound:g}", message, unit="relative")


def gap_closed(evidence: Evidence, claim: Claim) -> Verdict | None:
    """Training closed its share of the gap between the base's loss and the exact floor."""
    bounds = claim.spec.gap_closed
    if bounds is None:
        return None
    share = measured_gap(evidence)
    if share is None:
        return missing("gap_closed", "the loss before and after training")
    low = bounds.min if bounds.min is not None else -math.inf
    high = bounds.max if bounds.max is not None else math.inf
    before, after = (_evaluation(evidence, when) for when in ("before", "after"))
    assert before is not None and after is not None
    message = (
        f"held-out loss went from {before.loss:.4f} to {after.loss:.4f} nats/token over a floor of "
        f"{after.floor:.4f}; likely the wrong parameters, labels or learning rate"
    )
    bound = f"{low:g} to {high:g}" if bounds.max is not None else f">= {low:g}"
    return decide("gap_closed", low <= share <= high, share, bound, message, unit="share")


def measured_gap(evidence: Evidence) -> float | None:
    """Return (before - after) / (before - floor), or None where it wasn't measured."""
    before, after = _evaluation(evidence, "before"), _evaluation(evidence, "after")
    if before is None or after is None:
        return None
    return (before.loss - after.loss) / (before.loss - after.floor)


def _evaluation(evidence: Evidence, when: str) -> Evaluation | None:
    found = [e for e in evidence.all(Evaluation) if e.when == when]
    return found[-1] if found else None


def _has_dropout(claim: Claim) -> bool:
    return float(claim.option("method")["implementation"].get("dropout", 0.0)) > 0


def _logged(
    name: str, evidence: Evidence, position: int, low: float | None, high: float | None
) -> Verdict | None:
    if low is None and high is None:
        return None
    losses = [s.loss for s in evidence.all(LoggedStep) if s.loss is not None]
    if not losses:
        return missing(name, "a logged loss")
    loss = losses[position]
    least = -math.inf if low is None else low
    most = math.inf if high is None else high
    message = f"{loss:.4g} nats per token is outside {least:g} to {most:g}"
    # A nan compares false with everything, so it fails here too.
    return decide(name, least <= loss <= most, loss, f"{least:g} to {most:g}", message, unit="nats")
