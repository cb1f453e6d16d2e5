"""Every setting takes effect, measured where it acts and not where it is echoed."""

from __future__ import annotations

import math

from tunematrix.checks.figures import relative, severity, tolerance
from tunematrix.checks.verdict import Claim, Verdict, decide, listed, missing
from tunematrix.evidence.events import (
    AdapterScale,
    Compute,
    Device,
    LoggedStep,
    OptimizerStep,
    Switches,
)
from tunematrix.evidence.evidence import Evidence

RATE_TOLERANCE = 1e-6
UPDATE_TOLERANCE = {"float32": 5e-4, "bfloat16": 0.1, "float16": 0.1}
"""Relative to the largest update; half-precision parameters round each update."""
GRADIENT_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1, "float16": 2e-2}
"""Relative to the largest; half-precision arithmetic rounds each product. In full precision 7e-6
was the worst over 20 seeds, and gradients that were in half precision once are 2e-4 off."""
NORM_TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-3, "float16": 2e-3}
"""Relative. What each product rounds is lost among all of them, but not what a trainer rounds that
takes norms in half precision, and scales them down: see `CLIP_TOLERANCE`."""
CLIP_TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-2, "float16": 2e-3}
"""Half-precision gradients round when they are scaled down."""
SCALE_TOLERANCE = 0.02


def device(evidence: Evidence, claim: Claim) -> Verdict:
    """Parameters and activations were on the device that was asked for."""
    seen = evidence.one(Device)
    if seen is None:
        return missing("device", "where tensors were")
    wanted = str(claim.option("backend")["device"])
    if not seen.parameters or not seen.activations:
        return missing("device", "where parameters and activations were")
    places = sorted({*seen.parameters, *seen.activations})
    message = f"tensors were on {', '.join(places)}; a fallback, or parts left behind"
    return decide("device", places == [wanted], ", ".join(places), wanted, message)


def switches(evidence: Evidence, claim: Claim) -> Verdict:
    """What a library can set for the whole process stayed as the backend had set it."""
    seen = evidence.one(Switches)
    if seen is None or not seen.steps or not seen.begun:
        return missing("switches", "process-wide switches after a step")
    changed = [
        f"{name} was {seen.begun.get(name)}, and {value} after step {step}"
        for name, (step, value) in seen.changed.items()
    ]
    message = f"{listed(changed)}; a library sets it for the whole process, and all that follows"
    return decide("switches", not changed, len(changed), "0", message, unit="changed")


def learning_rate(evidence: Evidence, claim: Claim) -> Verdict:
    """Each step's rate, read from the optimizer, follows the schedule's formula."""
    steps = evidence.all(OptimizerStep)
    if not steps or not all(step.learning_rates for step in steps):
        return missing("learning_rate", "each optimizer step's rate")
    peak, total = float(claim.train["learning_rate"]), int(claim.train["max_steps"])
    errors = [
        (abs(rate - scheduled_rate(claim, step.step)), step.step, rate)
        for step in steps
        for rate in step.learning_rates
    ]
    error, worst, rate = max(errors, key=lambda found: severity(found[0]))
    message = (
        f"step {worst} used {rate:g}, {claim.option('scheduler')['name']} from {peak:g} with "
        f"{claim.train['warmup_steps']} warm-up steps asks for {scheduled_rate(claim, worst):g}; "
        f"the scheduler was ignored, or stepped at the wrong time ({len(steps)} of {total} steps)"
    )
    bound = RATE_TOLERANCE * peak
    ok = error <= bound and len(steps) == total
    return decide(
        "learning_rate", ok, error, f"<= {bound:g} in each of {total} steps", message,
        unit="from the schedule",
    )  # fmt: skip


def scheduled_rate(claim: Claim, step: int) -> float:
    """Return the rate of optimizer step `step` (from 0) by the schedule's definition."""
    peak = float(claim.train["learning_rate"])
    warm, total = int(claim.train["warmup_steps"]), int(claim.train["max_steps"])
    if step < warm:
        return peak * step / warm
    progress = (step - warm) / max(1, total - warm)
    shape = {
        "constant": 1.0,
        "linear": 1.0 - progress,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * progress)),
    }
    return peak * shape[claim.option("scheduler")["name"]]


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
    message = (
        f"gradients of step {step} differ from those of its loss by {worst:.2%} of the largest, "
        f"their norm before or after clipping by {off:.2%}; "
        "micro-batches were lost or averaged without their tokens, the backward pass drew another "
        "dropout, or gradients were rescaled or clipped in between"
    )
    # Clipping hides a scale from the one, and a single small tensor is lost in the other.
    if worst <= bound:
        return decide("gradient", off <= room, off, f"<= {room:g}", message, unit="of the norm")
    return decide("gradient", False, worst, f"<= {bound:g}", message, unit="of the gradient")


def _norm_error(evidence: Evidence, claim: Claim) -> float:
    """Return the worst error of a norm, as logged and as the optimizer got it.

    Clipping hides the scale of a gradient, and what rounds at random hardly changes a norm.
    """
    limit = float(claim.train["max_grad_norm"]) or math.inf
    logged = {s.step - 1: s.gradient_norm for s in evidence.all(LoggedStep)}
    steps = [
        (s.step, s.gradient_norm, s.expected_norm)
        for s in evidence.all(OptimizerStep)
        if s.expected_norm is not None
    ]
    pairs = [
        (measured, wanted)
        for step, got, own in steps
        for measured, wanted in ((logged.get(step), own), (got, min(own, limit)))
        if measured is not None
    ]
    return max((relative(*pair) for pair in pairs), default=0.0, key=severity)


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


def precision(evidence: Evidence, claim: Claim) -> Verdict:
    """The base's layers multiply in the dtype that the precision promises."""
    seen = evidence.one(Compute)
    if seen is None:
        return missing("precision", "dtypes")
    wanted = str(claim.option("precision")["compute"])
    measured = ", ".join(seen.products)
    message = f"layers computed in {measured}; mixed precision was ignored or leaks"
    return decide("precision", seen.products == (wanted,), measured, wanted, message)


def attention_kernel(evidence: Evidence, claim: Claim) -> Verdict | None:
    """Attention ran in one kernel, in each layer."""
    seen = evidence.one(Compute)
    if seen is None:
        return missing("attention_kernel", "how attention was computed")
    if seen.attention is None:
        return None
    kernels, layers = seen.attention
    message = (
        f"{kernels} of {layers} layers computed attention in a kernel; the others multiplied and "
        "took a softmax, in more memory and time: kernels were switched off, or refused the inputs"
    )
    return decide(
        "attention_kernel", kernels >= layers, kernels, f">= {layers}", message, unit="layers"
    )


def adapter_scale(evidence: Evidence, claim: Claim) -> Verdict | None:
    """The adapter's product enters each layer with the configured factor."""
    settings = claim.option("method")["implementation"]
    if "alpha" not in settings or settings.get("use_dora"):
        return None
    seen = evidence.one(AdapterScale)
    if seen is None:
        return missing("adapter_scale", "the adapter's factor")
    rank = float(settings["rank"])
    wanted = float(settings["alpha"]) / (math.sqrt(rank) if settings.get("use_rslora") else rank)
    error = max((relative(measured, wanted) for measured in seen.measured), key=severity)
    message = (
        f"measured {seen.measured[0]:.4g} to {seen.measured[1]:.4g}, configured {wanted:.4g}; "
        "alpha, rank or its root was ignored, or an adapter takes no part"
    )
    return decide(
        "adapter_scale", error <= SCALE_TOLERANCE, error, f"<= {SCALE_TOLERANCE:g}", message,
        unit="relative",
    )  # fmt: skip
