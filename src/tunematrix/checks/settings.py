"""Every setting takes effect, measured where it acts and not where it is echoed."""

from __future__ import annotations

import math
from collections import Counter
from statistics import median

from tunematrix.checks.figures import relative, severity, tolerance
from tunematrix.checks.verdict import Claim, Verdict, decide, missing
from tunematrix.evidence.events import (
    AdapterScale,
    Compute,
    Coverage,
    Device,
    LoggedStep,
    MicroBatch,
    OptimizerStep,
)
from tunematrix.evidence.evidence import Evidence

RATE_TOLERANCE = 1e-6
UPDATE_TOLERANCE = {"float32": 5e-4, "bfloat16": 0.1, "float16": 0.1}
"""Relative to the largest update; half-precision parameters round each update."""
GRADIENT_TOLERANCE = {"float32": 2e-3, "bfloat16": 0.1, "float16": 2e-2}
"""Relative to the largest; half-precision arithmetic rounds each product."""
NORM_TOLERANCE = {"float32": 1e-3, "bfloat16": 3e-3, "float16": 2e-3}
"""Relative. What each product rounds is lost among all of them, but not what a trainer rounds that
takes norms in half precision, and scales them down: see `CLIP_TOLERANCE`."""
CLIP_TOLERANCE = {"float32": 1e-3, "bfloat16": 1e-2, "float16": 2e-3}
"""Half-precision gradients round when they are scaled down."""
SCALE_TOLERANCE = 0.02
PACKED_FILL = 0.7
IN_ORDER = 0.5
"""Share of rows; shuffled, one of so many rows as there are is followed by its next."""


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


def micro_batches(evidence: Evidence, claim: Claim) -> Verdict:
    """Each optimizer step saw as many micro-batches, of as many rows, as asked for."""
    seen = evidence.all(MicroBatch)
    if not seen:
        return missing("micro_batches", "a training pass")
    wanted = int(claim.train["accumulation"])
    rows = int(claim.train["batch_size"]) * int(claim.option("recipe").get("sequences_per_row", 1))
    passes = Counter(batch.step for batch in seen)
    counts = {passes[step] for step in {*range(int(claim.train["max_steps"])), *passes}}
    odd_counts = counts - {wanted}
    if claim.option("data")["packing"]:
        room = rows * int(claim.train["max_length"])
        # What is left over for an epoch's last row may be short.
        usual = median(batch.columns for batch in seen)
        odd_rows = {b.columns for b in seen if b.columns > room or usual < PACKED_FILL * room}
        shape = f"{PACKED_FILL * room:.0f} to {room} packed positions, save the last"
    else:
        odd_rows = {batch.rows for batch in seen if batch.rows != rows}
        shape = f"{rows} rows"
    message = (
        f"steps with {sorted(odd_counts)} micro-batches, micro-batches of {sorted(odd_rows)}; "
        "accumulation, batch size or packing was ignored"
    )
    measured = f"{sorted(counts)} per step"
    bound = f"{wanted} per step, each of {shape}"
    return decide("micro_batches", not odd_counts and not odd_rows, measured, bound, message)


def labels(evidence: Evidence, claim: Claim) -> Verdict:
    """The loss counts exactly the tokens that the data form supervises."""
    seen = [batch for batch in evidence.all(MicroBatch) if batch.audited]
    if not seen:
        return missing("labels", "an audited batch")
    audited = sum(batch.audited for batch in seen)
    share = sum(batch.faithful for batch in seen) / audited
    message = (
        f"{share:.0%} of {audited} rows count exactly their {claim.train['loss_on']} tokens and "
        "the end token; the rest have shuffled, masked or extra labels"
    )
    return decide("labels", share == 1.0, share, "1", message, unit="share of rows")


def coverage(evidence: Evidence, claim: Claim) -> Verdict | None:
    """Each pass over the data sees every row once, and not in the order of the data."""
    steps, seen = evidence.all(OptimizerStep), evidence.one(Coverage)
    if seen is None and steps and all(step.gradient_norm is None for step in steps):
        return None  # its trainer's batches are looked at in the first steps alone
    if seen is None or not seen.seen:
        return missing("coverage", "which rows were trained on")
    message = (
        f"{seen.uneven} rows were seen too often or too seldom, {seen.successive:.0%} were "
        f"followed by the next one of the data ({seen.seen} rows seen, of {seen.rows}); likely a "
        "sampler that repeats or loses rows, or that doesn't shuffle"
    )
    if seen.uneven:
        return decide("coverage", False, seen.uneven, "0", message, unit="rows")
    ok, bound = seen.successive <= IN_ORDER, f"<= {IN_ORDER:g}"
    return decide("coverage", ok, seen.successive, bound, message, unit="share in order")


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
    return decide("clipping", ok, measured, f"{wanted:.4g} within {share:g}", message, unit="norm")


def gradient_checkpointing(evidence: Evidence, claim: Claim) -> Verdict:
    """Layers run again in the backward pass if, and only if, that was asked for."""
    calls = {batch.layer_calls for batch in evidence.all(MicroBatch)}
    if not calls:
        return missing("gradient_checkpointing", "a training pass")
    wanted = 2 if claim.train["gradient_checkpointing"] else 1
    message = (
        f"the first layer ran {sorted(calls)} times per micro-batch, not {wanted}; "
        "checkpointing was ignored, or switched on unasked"
    )
    return decide(
        "gradient_checkpointing", calls == {wanted}, str(sorted(calls)), f"{wanted}", message,
        unit="calls",
    )  # fmt: skip


def activations(evidence: Evidence, claim: Claim) -> Verdict | None:
    """Activations are let go: after their pass, and where they are computed again, before that."""
    passes = evidence.all(MicroBatch)
    if not passes:
        return missing("activations", "a training pass")
    batches = [b for b in passes if b.kept is not None]
    if not batches:
        return None  # MLX has no way to ask
    kept = sum(b.kept or 0 for b in batches) if claim.train["gradient_checkpointing"] else 0
    stale = sum(b.stale or 0 for b in batches)
    message = (
        f"in {len(batches)} passes {kept} of the first layer's inputs were kept though they are "
        f"computed again, and {stale} outlived their pass; something refers to them"
    )
    ok = not kept and not stale
    return decide("activations", ok, kept + stale, "0", message, unit="tensors")


def precision(evidence: Evidence, claim: Claim) -> Verdict:
    """The base's layers multiply in the dtype that the precision promises."""
    seen = evidence.one(Compute)
    if seen is None:
        return missing("precision", "dtypes")
    wanted = str(claim.option("precision")["compute"])
    measured = ", ".join(seen.products)
    message = f"layers computed in {measured}; mixed precision was ignored or leaks"
    return decide("precision", seen.products == (wanted,), measured, wanted, message)


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
