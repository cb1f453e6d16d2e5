"""Each optimizer step is what its loss, its limit and its formula make it."""

from __future__ import annotations

import math

from tunematrix.checks.figures import relative, severity, tolerance
from tunematrix.checks.verdict import Claim, Verdict, decide, missing
from tunematrix.evidence.events import Compute, LoggedStep, OptimizerStep
from tunematrix.evidence.evidence import Evidence

UPDATE_TOLERANCE = {"float32": 5e-4, "bfloat16": 0.1, "float16": 0.1}
"""Relative to the largest update; half-precision parameters round each update."""
GRADIENT_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1, "float16": 2e-2}
"""Relative to the largest; half-precision arithmetic rounds each product. In full precision 7e-6
was the worst over 20 seeds, and gradients that were in half precision once are 2e-4 off."""
NORM_TOLERANCE = {"float32": 1e-4, "bfloat16": 6e-3, "float16": 2e-3}
"""Relative. What each product rounds is lost among all of them (3.6e-3 were measured in bfloat16 on
a processor that emulates it), but not what a trainer rounds that takes norms in half precision, and
scales them down: see `CLIP_TOLERANCE`."""
CLIP_TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-2, "float16": 2e-3}
"""Half-precision gradients round when they are scaled down."""
CLIP_ROOM = 1e-2
"""A norm that is nearer to the limit than this may have been cut to it."""


def gradient(evidence: Evidence, claim: Claim) -> Verdict:
    """The optimizer gets the gradient of its batches' loss, recomputed outside of the trainer."""
    steps, compute = evidence.all(OptimizerStep), evidence.one(Compute)
    found = [(s.gradient_error, s.step) for s in steps if s.gradient_error is not None]
    if not found or compute is None:
        return missing("gradient", "a recomputed gradient")
    worst, step = max(found, key=lambda one: severity(one[0]))
    dtypes = (*compute.products, *compute.trainable)
    bound = tolerance(GRADIENT_TOLERANCE, dtypes)
    off = _norm_error(evidence, claim)
    room = max(
        tolerance(NORM_TOLERANCE, compute.products), tolerance(CLIP_TOLERANCE, compute.trainable)
    )
    lengths = "" if off is None else f", their norm before or after clipping by {off:.2%}"
    message = (
        f"gradients of step {step} differ from those of its loss by {worst:.2%} of the largest"
        f"{lengths}; "
        "micro-batches were lost or averaged without their tokens, the backward pass drew another "
        "dropout, or gradients were rescaled or clipped in between"
    )
    # Clipping hides a scale from the one, and a single small tensor is lost in the other.
    if worst <= bound and off is not None:
        return decide("gradient", off <= room, off, f"<= {room:g}", message, unit="of the norm")
    return decide(
        "gradient", worst <= bound, worst, f"<= {bound:g}", message, unit="of the gradient"
    )


def optimizer_update(evidence: Evidence, claim: Claim) -> Verdict:
    """The parameters moved as the optimizer's formula says, recomputed from their gradients."""
    found = [s.deviation for s in evidence.all(OptimizerStep) if s.deviation is not None]
    compute = evidence.one(Compute)
    if not found or compute is None:
        return missing("optimizer_update", "an audited optimizer step")
    worst = max(found, key=severity)
    bound = tolerance(UPDATE_TOLERANCE, compute.trainable)
    message = (
        f"updates differ from {claim.option('optimizer')['name']}'s formula by {worst:.2%} of the "
        "largest; another optimizer ran, or its settings (betas, eps, weight decay) were ignored"
    )
    return decide(
        "optimizer_update", worst <= bound, worst, f"<= {bound:g}", message, unit="of the update"
    )


def clipping(evidence: Evidence, claim: Claim) -> Verdict | None:
    """The optimizer gets each gradient as it was, or cut to the limit where it was longer."""
    asked = float(claim.train["max_grad_norm"])
    if not asked and not claim.option("backend")["max_grad_norm"]:
        return None  # its trainer can't clip, and wasn't asked to
    steps, compute = evidence.all(OptimizerStep), evidence.one(Compute)
    after = [(s.step, s.gradient_norm) for s in steps if s.gradient_norm is not None]
    logged = evidence.all(LoggedStep)
    before = {s.step: s.gradient_norm for s in logged if s.gradient_norm is not None}
    if len(after) != len(steps) or not after or not before or compute is None:
        return missing("clipping", "gradient norms before and after clipping")
    limit = asked or math.inf
    # A trainer may log some steps only; of the others, the limit alone is known.
    norms = [(norm, min(before.get(step + 1, norm), limit), step) for step, norm in after]
    measured, wanted, worst = max(norms, key=lambda found: severity(relative(*found[:2])))
    share = tolerance(CLIP_TOLERANCE, compute.trainable)
    message = (
        f"step {worst} gave the optimizer a gradient of norm {measured:.4g} where "
        f"{wanted:.4g} was due under a limit of {limit:g}; clipping was ignored, or another limit "
        "taken"
    )
    ok = relative(measured, wanted) <= share
    bound = f"{wanted:.6g} within {100 * share:g}%"
    return decide("clipping", ok, measured, bound, message, unit="norm")


def _norm_error(evidence: Evidence, claim: Claim) -> float | None:
    """Return the worst error of a norm, as logged and as the optimizer got it; None if none is due.

    Clipping hides the scale of a gradient, and what rounds at random hardly changes a norm.
    """
    limit = float(claim.train["max_grad_norm"]) or math.inf
    logged = {s.step - 1: s.gradient_norm for s in evidence.all(LoggedStep)}
    pairs: list[tuple[float | None, float | None]] = []
    for step in evidence.all(OptimizerStep):
        before, got, own = logged.get(step.step), step.gradient_norm, step.expected_norm
        if own is not None:
            pairs += [(before, own), (got, min(own, limit))]
        else:
            pairs.append((step.gradient_factor, _cut_by(limit, before, got)))
    errors = (
        relative(measured, wanted)
        for measured, wanted in pairs
        if measured is not None and wanted is not None
    )
    return max(errors, default=None, key=severity)


def _cut_by(limit: float, before: float | None, got: float | None) -> float | None:
    """Return what clipping leaves of a gradient of that norm; None if nothing tells it."""
    if before is None and got is not None and got < limit * (1 - CLIP_ROOM):
        return 1.0
    return min(limit / before, 1.0) if before else None
