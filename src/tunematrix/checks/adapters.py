"""Adapters drop, scale, compute and start as their method says."""

from __future__ import annotations

import math

from tunematrix.checks.arithmetic import relative, severity, tolerance
from tunematrix.checks.bound import Around, AtLeast, AtMost, Exactly, Near
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by, missing
from tunematrix.configuration import adapters
from tunematrix.evidence.events import (
    AdapterDropout,
    AdapterFormula,
    AdapterScale,
    Attached,
    Compute,
)
from tunematrix.evidence.evidence import Evidence

DEVIATIONS = 6.0
"""Standard deviations that chance may take a share from its mean; one run in 500 million does."""
FACTOR_TOLERANCE = 1e-2
"""Of the factor by which dropout scales the inputs it keeps; half precision rounds each product."""
FORMULA_TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2, "float16": 4e-3}
BASE_GRADIENT_TOLERANCE = {"float32": 1e-5, "bfloat16": 5e-3, "float16": 1e-3}
"""Relative. Measured up to 1.2e-7, 1.73e-3 and 2.2e-4 over all quantizers on a CPU."""
LEAST_INDEPENDENT = 1e-4
SCALE_TOLERANCE = 0.02


@check(
    name="adapter_dropout",
    group="training",
    reads=(AdapterDropout,),
    unit="share of inputs",
    bug=(
        "dropout that is ignored, or left at a library's default; a model that trains in "
        "evaluation "
        "mode"
    ),
)
def adapter_dropout(evidence: Evidence, claim: Claim) -> Judgement | None:
    """The configured share of the adapters' inputs is dropped.

    Reads how many inputs of an adapter reach its first factor as 0, in each layer's first
    passes and after that in one layer for each pass (in MLX, the result of the adapters'
    dropout on ones). Fails when the share differs from the configured one by more than chance
    explains (6 standard deviations), or when an input is dropped although dropout is 0. Not judged
    of a compiled model, which can't be had with dropout.
    """
    settings = claim.config.method.implementation
    if "dropout" not in settings or claim.hides("layers"):
        return None
    seen = evidence.one(AdapterDropout)
    if seen is None or not seen.inputs:
        return missing("what entered the adapters")
    wanted, share = float(settings["dropout"]), seen.zeroed / seen.inputs
    room = DEVIATIONS * math.sqrt(wanted * (1 - wanted) / seen.inputs)
    message = (
        f"{share:.3%} of the adapters' inputs were dropped in training, configured are "
        f"{wanted:.3%}; dropout was ignored, or the model trained in evaluation mode"
    )
    bound = Around(wanted, room) if wanted else Exactly(0)
    return judge_by(bound, share, message)


@check(
    name="dropout_factor",
    group="training",
    reads=(AdapterDropout,),
    unit="times",
    bug=(
        "dropout without this factor, so that adapters learn at one scale and are used at another"
    ),
)
def dropout_factor(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Dropout scales up the remaining inputs to make up for the dropped ones.

    Reads the factor by which dropout multiplies the inputs that it keeps. Fails when it isn't
    1/(1 − dropout), within 1 %.
    """
    wanted = _dropout(claim)
    seen = evidence.one(AdapterDropout)
    if not wanted or claim.hides("masks"):
        return None
    if seen is None or seen.factor is None:
        return missing("what entered the adapters")
    expected = 1 / (1 - wanted)
    message = (
        f"what dropout let through was multiplied by {seen.factor:.5g}, not by {expected:.5g}; "
        "adapters learn at another scale than they are used at"
    )
    return judge_by(Near(expected, FACTOR_TOLERANCE), seen.factor, message)


@check(
    name="dropout_independent",
    group="training",
    reads=(AdapterDropout,),
    unit="share of pairs",
    bug="one mask for all rows, generators that are seeded again in each step",
)
def dropout_independent(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Each row and each step draws a dropout mask of its own.

    Reads the masks of two rows of a batch, and of two passes of a layer. Fails when they agree
    more, or less, than chance explains (6 standard deviations).
    """
    wanted = _dropout(claim)
    seen = evidence.one(AdapterDropout)
    # Checkpointing sends a row through its layer twice, under one mask.
    alone = claim.config.train.batch_size == 1 and claim.config.train.gradient_checkpointing
    if not wanted or alone or claim.hides("masks"):
        return None
    if seen is None or not seen.compared:
        return missing("masks of two rows or two steps")
    expected, share = wanted**2 + (1 - wanted) ** 2, seen.alike / seen.compared
    room = DEVIATIONS * math.sqrt(expected * (1 - expected) / seen.compared)
    message = (
        f"{share:.3%} of the masks of two rows or two steps agree, by chance {expected:.3%} do; "
        "a mask is shared or drawn again under the same seed"
    )
    return judge_by(Around(expected, room), share, message)


@check(
    name="adapter_scale",
    group="training",
    reads=(AdapterScale,),
    unit="relative",
    bug=(
        "scales that ignore the rank "
        "([mlx-vlm#845](https://github.com/Blaizzy/mlx-vlm/issues/845)) or rslora "
        "([peft#2733](https://github.com/huggingface/peft/issues/2733))"
    ),
)
def adapter_scale(evidence: Evidence, claim: Claim) -> Judgement | None:
    """The adapter's product enters each layer with the configured factor.

    Reads the adapter's part of a layer's output, and finds its factor by regression on B·A·x.
    Fails when the factor isn't alpha/rank (alpha/√rank for rank-stabilised LoRA), each as it is
    configured for that layer.
    """
    settings = claim.config.method.implementation
    if "alpha" not in settings or settings.get("use_dora"):
        return None
    seen = evidence.one(AdapterScale)
    if seen is None or not seen.layers:
        return missing("the adapter's factor")
    due = {one.name: adapters.factor(settings, one.name) for one in seen.layers}
    errors = [(relative(one.measured, due[one.name]), one) for one in seen.layers]
    error, worst = max(errors, key=lambda row: severity(row[0]))
    message = (
        f"measured {worst.measured:.4g} on {worst.name}, configured {due[worst.name]:.4g}; alpha, "
        "rank or its root was ignored, a pattern of them matched other layers, or an adapter "
        "takes no part"
    )
    return judge_by(AtMost(SCALE_TOLERANCE), error, message)


@check(
    name="adapter_formula",
    group="training",
    reads=(
        AdapterFormula,
        Compute,
    ),
    unit="relative",
    bug=(
        "a DoRA norm that takes a gradient, factors in the wrong place, fused kernels that "
        "compute another sum"
    ),
)
def adapter_formula(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Each trained adapter computes its method's formula, forwards and backwards.

    Reads the output and gradients of each trained adapter for random rows, and the same from
    its method's formula. Fails when they differ by more than rounding.
    """
    if claim.config.method.trains_base:
        return None
    seen, compute = evidence.one(AdapterFormula), evidence.one(Compute)
    if seen is None or compute is None or not seen.layers:
        return missing("an adapted layer")
    rows = [("output", one.name, one.output) for one in seen.layers]
    rows += [("gradient", one.name, one.gradient) for one in seen.layers]
    what, name, error = max(rows, key=lambda row: severity(row[2]))
    precision = claim.config.precision
    dtypes = (precision.weights, precision.compute, *compute.trainable)
    bound = AtMost(tolerance(FORMULA_TOLERANCE, dtypes))
    message = (
        f"the {what} of {name} is off by {error:.3g} from its formula's; a factor that is left "
        "out, a norm that takes a gradient, or an adapter that enters otherwise"
    )
    return judge_by(bound, error, message)


@check(
    name="base_gradient",
    group="training",
    reads=(AdapterFormula,),
    unit="relative",
    bug=(
        "kernels that dequantize otherwise in the backward pass than in the forward pass: with "
        "other scales, in a lower precision, or from a transposed weight"
    ),
)
def base_gradient(evidence: Evidence, claim: Claim) -> Judgement | None:
    """What an adapted layer's base hands back to the layers below is its weight's gradient.

    Reads the gradient of each adapted layer's base, without its adapter, for random rows, and
    their product with the weight that it stores. Fails when they differ by more than rounding.
    """
    if claim.config.method.trains_base:
        return None
    seen = evidence.one(AdapterFormula)
    if seen is None or not seen.layers:
        return missing("an adapted layer")
    rows = [(one.base_gradient, one.name) for one in seen.layers if one.base_gradient is not None]
    if not rows:
        return None  # an engine that doesn't look
    error, name = max(rows, key=lambda row: severity(row[0]))
    precision = claim.config.precision
    allowed = tolerance(BASE_GRADIENT_TOLERANCE, (precision.weights, precision.compute))
    message = (
        f"the gradient that the base of {name} hands back is off by {error:.3g} from that of its "
        "weight; likely its backward pass dequantizes otherwise than its forward pass, so that all "
        "adapters below learn something else"
    )
    return judge_by(AtMost(allowed), error, message)


@check(
    name="adapter_rank",
    group="training",
    reads=(
        AdapterFormula,
        Attached,
    ),
    unit="of the largest",
    bug=(
        "factors whose rows start with equal values, so that the adapter's rank is lower than "
        "configured; layers that are all initialized with the same seed"
    ),
)
def adapter_rank(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Each adapter has its configured rank: no row of its first factor repeats or combines others.

    Reads the rows of each adapter's first factor and their singular values, and before training
    the singular values of all first factors together. Fails when a factor has more or fewer rows
    than are configured for its layer, or when the smallest value is below 1e-4 of the largest.
    """
    if claim.config.method.trains_base:
        return None
    seen, start = evidence.one(AdapterFormula), evidence.one(Attached)
    if seen is None or not seen.layers or start is None:
        return missing("an adapted layer")
    settings = claim.config.method.implementation
    for one in seen.layers if "rank" in settings else ():
        if one.rank != (wanted := adapters.rank(settings, one.name)):
            message = (
                f"the adapter on {one.name} has rank {one.rank}, configured is {wanted}; a pattern "
                "of ranks was ignored, or matched other layers"
            )
            return judge_by(Exactly(wanted), one.rank, message, unit="rows")
    factors = [(f"{one.name}'s first factor", one.independence) for one in seen.layers]
    if start.apart is not None:
        factors.append(("all adapters' first factors, before training", start.apart))
    where, least = min(factors, key=lambda factor: (LEAST_INDEPENDENT <= factor[1] <= 1, factor[1]))
    message = (
        f"the rows of {where} depend on each other (least over largest singular value: "
        f"{least:.3g}); they were started alike or never drawn, so that there is less to train "
        "than was asked for"
    )
    return judge_by(AtLeast(LEAST_INDEPENDENT), least, message, provided=least <= 1)


def _dropout(claim: Claim) -> float:
    return float(claim.config.method.implementation.get("dropout", 0.0))
