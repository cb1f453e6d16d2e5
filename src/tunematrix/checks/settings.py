"""Every setting takes effect, measured where it acts and not where it is echoed."""

from __future__ import annotations

import math

from tunematrix.checks.figures import relative, severity
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


def logged_rate(evidence: Evidence, claim: Claim) -> Verdict | None:
    """The rates that are logged are those of their steps, or each the next step's."""
    lines = evidence.all(LoggedStep)
    if not lines:
        return missing("logged_rate", "a logged step")
    rates = {one.step: one.learning_rate for one in lines if one.learning_rate is not None}
    if not rates:
        return None  # not every loop logs them
    # Whether a line is written before or after the scheduler's step differs between releases.
    # A log that counts from 0, which other checks see, has a line before the first step.
    either = [
        [
            (abs(rate - scheduled_rate(claim, max(at - 1 + late, 0))), at)
            for at, rate in rates.items()
        ]
        for late in (0, 1)
    ]
    found = [max(errors, key=lambda one: severity(one[0])) for errors in either]
    error, worst = min(found, key=lambda one: severity(one[0]))
    bound = RATE_TOLERANCE * float(claim.train["learning_rate"])
    message = (
        f"step {worst} logged a rate of {rates[worst]:g}, which was neither its own nor the next "
        "one's; the curve that people look at isn't what trained"
    )
    return decide(
        "logged_rate", error <= bound, error, f"<= {bound:g}", message, unit="from the schedule"
    )


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
