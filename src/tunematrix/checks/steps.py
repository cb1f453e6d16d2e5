"""Each optimizer step follows from its loss, its limit and its formula."""

from __future__ import annotations

import math

from tunematrix.checks.arithmetic import relative, severity, tolerance
from tunematrix.checks.bound import AtMost, Near
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by, missing
from tunematrix.evidence.events import Compute, LoggedStep, OptimizerStep
from tunematrix.evidence.evidence import Evidence

UPDATE_TOLERANCE = {"float32": 5e-4, "bfloat16": 0.1, "float16": 0.1}
"""Relative to the largest update; half-precision parameters round each update."""
GRADIENT_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1, "float16": 2e-2}
"""Relative to the largest; half-precision arithmetic rounds each product. In full precision 7e-6
was the worst over 20 seeds, and gradients that were in half precision once are 2e-4 off."""
LOST_TIMES = 1.25
"""Of what float16 loses of a loss that is as small as a trainer's: 0.99 times was measured where
torchao multiplies a gradient by scales of 1e-3, and a tenth of it is gone."""
NORM_TOLERANCE = {"float32": 1e-4, "bfloat16": 6e-3, "float16": 2e-3}
"""Relative. What each product rounds is lost among all of them (3.6e-3 were measured in bfloat16 on
a processor that emulates it), but not what a trainer rounds that takes norms in half precision, and
scales them down: see `CLIP_TOLERANCE`."""
CLIP_TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-2, "float16": 2e-3}
"""Half-precision gradients round when they are scaled down."""
CLIP_ROOM = 1e-2
"""A norm that is nearer to the limit than this may have been cut to it."""


@check(
    name="gradient",
    group="texts",
    reads=(
        OptimizerStep,
        Compute,
        LoggedStep,
    ),
    unit="of the gradient",
    bug=(
        "divisors that count the wrong tokens, micro-batches that are lost or averaged "
        "without their tokens "
        "([transformers#34191](https://github.com/huggingface/transformers/issues/34191), "
        "[mlx-lm#1544](https://github.com/ml-explore/mlx-lm/pull/1544)), other dropout masks "
        "in the backward pass, another limit, rescaled gradients; the loss and AdamW's "
        "updates may show none of these"
    ),
)
def gradient(evidence: Evidence, claim: Claim) -> Judgement:
    """The optimizer gets the gradient of its batches' loss, recomputed outside the trainer.

    Reads the gradients that the optimizer gets in the first step and the last (in MLX,
    those that follow from its moments or updates in the first three). They are compared with
    gradients of the same batches' cross-entropy, recomputed outside the trainer and cut to
    `train.max_grad_norm`, and so are their norms, both logged and received. Fails when they differ
    by more than rounding (and, in float16 without a scaled loss, by more than is lost of small
    gradients), in the worst tensor or in the norm.
    """
    steps, compute = evidence.all(OptimizerStep), evidence.one(Compute)
    errors = [(s.gradient_error, s) for s in steps if s.gradient_error is not None]
    if not errors or compute is None:
        return missing("a recomputed gradient")
    worst, at = max(errors, key=lambda one: severity(one[0] - LOST_TIMES * one[1].gradient_lost))
    room = tolerance(GRADIENT_TOLERANCE, (*compute.products, *compute.trainable))
    bound = AtMost(room + LOST_TIMES * at.gradient_lost)
    off = _norm_error(evidence, claim)
    room = max(
        tolerance(NORM_TOLERANCE, compute.products), tolerance(CLIP_TOLERANCE, compute.trainable)
    )
    cause = (
        "micro-batches were lost or averaged without their tokens, the backward pass drew another "
        "dropout, or gradients were rescaled or clipped in between"
    )
    # Clipping hides a scale from the one, and a single small tensor is lost in the other.
    if bound.holds(worst) and off is not None:
        message = (
            "a gradient's norm, before or after clipping, differs from that of its loss by "
            f"{100 * off:.3g}%; {cause}"
        )
        return judge_by(AtMost(room), off, message, unit="of the norm")
    message = (
        f"gradients of step {at.step} differ from those of its loss by {100 * worst:.3g}% of the "
        f"largest; {cause}"
    )
    return judge_by(bound, worst, message)


@check(
    name="optimizer_update",
    group="training",
    reads=(
        OptimizerStep,
        Compute,
    ),
    unit="of the update",
    bug=(
        "another optimizer than the configured one; betas or weight decay that are ignored; "
        "modules in bfloat16 that round updates away "
        "([trl#7268](https://github.com/huggingface/trl/issues/7268))"
    ),
)
def optimizer_update(evidence: Evidence, claim: Claim) -> Judgement:
    """The parameters move as the optimizer's formula says.

    Reads all parameters after each of the first steps, and three tensors after each later one,
    and the same recomputed from the captured gradients by tunematrix's own formulas. Fails when
    they differ by more than rounding.
    """
    deviations = [s.deviation for s in evidence.all(OptimizerStep) if s.deviation is not None]
    compute = evidence.one(Compute)
    if not deviations or compute is None:
        return missing("an audited optimizer step")
    worst = max(deviations, key=severity)
    bound = AtMost(tolerance(UPDATE_TOLERANCE, compute.trainable))
    message = (
        f"updates differ from {claim.config.optimizer.name}'s formula by {worst:.2%} of the "
        "largest; another optimizer ran, or its settings (betas, eps, weight decay) were ignored"
    )
    return judge_by(bound, worst, message)


@check(
    name="clipping",
    group="training",
    reads=(
        OptimizerStep,
        Compute,
        LoggedStep,
    ),
    unit="norm",
    bug=(
        "clipping left out ([trl#3312](https://github.com/huggingface/trl/issues/3312)), "
        "another limit, rescaled gradients"
    ),
)
def clipping(evidence: Evidence, claim: Claim) -> Judgement | None:
    """The optimizer gets each gradient unchanged, or cut to the limit if it was longer.

    Reads each gradient's norm as logged before clipping, and as the optimizer gets it. Fails
    when it arrives longer than `train.max_grad_norm`, is cut to less than that, or is changed
    although it was short enough.
    """
    asked = claim.config.train.max_grad_norm
    if not asked and not claim.config.backend.max_grad_norm:
        return None  # its trainer can't clip, and wasn't asked to
    steps, compute = evidence.all(OptimizerStep), evidence.one(Compute)
    after = [(s.step, s.gradient_norm) for s in steps if s.gradient_norm is not None]
    logged = evidence.all(LoggedStep)
    before = {s.step: s.gradient_norm for s in logged if s.gradient_norm is not None}
    if len(after) != len(steps) or not after or not before or compute is None:
        return missing("gradient norms before and after clipping")
    limit = asked or math.inf
    # A trainer may log some steps only; of the others, the limit alone is known.
    norms = [(norm, min(before.get(step + 1, norm), limit), step) for step, norm in after]
    measured, wanted, worst = max(norms, key=lambda row: severity(relative(*row[:2])))
    share = tolerance(CLIP_TOLERANCE, compute.trainable)
    message = (
        f"step {worst} gave the optimizer a gradient of norm {measured:.4g} where "
        f"{wanted:.4g} was due under a limit of {limit:g}; clipping was ignored, or another limit "
        "taken"
    )
    return judge_by(Near(wanted, share), measured, message)


def _norm_error(evidence: Evidence, claim: Claim) -> float | None:
    """Return the worst error of a norm, as logged and as the optimizer got it; None if none is due.

    Clipping hides the scale of a gradient, and what rounds at random hardly changes a norm.
    """
    limit = claim.config.train.max_grad_norm or math.inf
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
