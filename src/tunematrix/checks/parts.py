"""What a base has beside its weights is as fine as its dtype: norms, positions, scales, offsets."""

from __future__ import annotations

import math

from tunematrix.checks.arithmetic import severity, tolerance
from tunematrix.checks.bound import AtLeast, AtMost
from tunematrix.checks.quantization import FEW_BITS, UNIT, dtypes_of, is_toy, theory_of
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by, missing
from tunematrix.evidence.events import BaseWeights
from tunematrix.evidence.evidence import Evidence

WHOLE_ROWS = {"float32": 1e-5, "bfloat16": 0.9 * 2**-8, "float16": 0.9 * 2**-11}
"""Of half precision, 0.9 of one rounding of each value. Two make 0.72 at most in ten models; 1.1
and more was measured where the sum of squares alone is in half precision, 1.9 where all is."""
SCALE_ARITHMETIC = 1e-4
"""Of a scale in float32; 3e-7 was measured."""
SCALE_CASTS = 5
"""Units that casting a scale and the weights moves the furthest group by; 2.9 were measured over
eight quantizers and seven models."""
NESTED = 5
"""All groups of a layer together are off by so much less than the worst: 0.02 times was measured in
nf4, whose scales are rounded."""
SCALES_ELSEWHERE = 4
"""Times that scales of weights which aren't as even as the toy world's may be off when they are
rounded to a few levels themselves."""
SCALE_BIAS, CODE_BIAS = 6, 0.05
"""Standard errors, and shares of a scale's largest error. Over toy models 1.4 were measured, and a
mean of 1e-4; of weights that are further spread out (Student's t with 4 degrees of freedom, 34 M of
them), 7.7 and 9e-5. Where scales are cut off, 40 and 3e-3."""
END, END_CASTS, END_CUT = 0.02, 2, 0.2
"""Steps: 2e-6 were measured in float32, and 0.25 where a shift is rounded to a whole step; how many
roundings a step and an end go through; and where what they cost hides that."""
SEEN_ELSEWHERE = 7
"""Bits that scales need which are taken from a checkpoint in bfloat16."""
PART = {"float32": 5e-5, "bfloat16": 1e-2, "float16": 2e-3}
"""Of a norm's output and of an angle's cosine, by the dtype that both are given back in: 1.1e-5 was
measured in float32, at position 127; in bfloat16 the same is off by 2e-3 and more."""


@check(
    name="base_parts",
    group="base",
    reads=(BaseWeights,),
    unit="relative",
    bug=(
        "norms or rotary frequencies in bfloat16 under a model in float32 "
        "([transformers#25681](https://github.com/huggingface/transformers/issues/25681)), also "
        "where the rounding of a quantized base hides them"
    ),
)
def base_parts(evidence: Evidence, claim: Claim) -> Judgement:
    """Norms and rotary positions compute what their definitions say, as finely as their dtype.

    Reads the output of each norm for random rows, and the cosines and sines of 128 positions, and
    both by their definitions in float64. Fails when one is off by more than its dtype rounds.
    """
    seen = evidence.one(BaseWeights)
    if seen is None or not seen.parts:
        return missing("norms beside their definition")
    worst = max(seen.parts, key=lambda one: severity(one.error))
    bound = AtMost(tolerance(PART, dtypes_of(claim)[:1]), note=f"the worst of {len(seen.parts)}")
    message = (
        f"{worst.name} is off by {worst.error:.3g} from its definition; likely it computes in "
        "another dtype, or its frequencies were cast along with the weights"
    )
    return judge_by(bound, worst.error, message)


@check(
    name="base_norms",
    group="base",
    reads=(BaseWeights,),
    unit="relative",
    bug="norms that are computed in the dtype of the weights, where definitions have float32",
)
def base_norms(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Norms take their mean and its root in float32, whatever they give it back in.

    Reads by how much whole rows that each norm gives are too large or small, as rounding each of
    their values to so much would make them. Fails when that is more than rounding them once, or
    twice, to their dtype makes. Norms of another kind, in a model of your own, aren't judged.
    """
    seen = evidence.one(BaseWeights)
    if seen is None or not seen.rows:
        is_other = seen is not None and seen.parts and not is_toy(claim)
        return None if is_other else missing("rows of norms beside their definition")
    worst = max(seen.rows, key=lambda one: severity(one.error))
    most = tolerance(WHOLE_ROWS, dtypes_of(claim)[:1])
    message = (
        f"rows that {worst.name} gives are too large or small as a whole, as far as rounding each "
        f"value by {worst.error:.3g} would make them; likely it takes its mean or its root in half "
        "precision, not in float32"
    )
    bound = AtMost(most, note=f"the worst of {len(seen.rows)}")
    return judge_by(bound, worst.error, message)


@check(
    name="group_scales",
    group="base",
    reads=(BaseWeights,),
    unit="relative",
    bug="kernels that spoil the scale of the last block, or of one that is cut short; an offset of "
    "scales that is off by little",
)
def group_scales(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Each group of quantized weights is stored with the scale that its weights give it.

    Reads the space between two levels of each group's stored weights (in 8 bits and nf4, its
    largest value), and the one that the quantizer's format gives to the checkpoint's weights. Fails
    when the group that is furthest off, or all of a layer's groups on average, are off by more than
    rounding the scale (`theory.rounding.scale_error`), casting it, and in 8 bits, unless the
    largest magnitude gives the scale, half a level.
    """
    seen, rounding = evidence.one(BaseWeights), theory_of(claim).rounding
    if rounding is None:
        return None
    if seen is None or not seen.scales:
        return missing("scales of groups")
    room = rounding.scale_error * (1 if is_toy(claim) else SCALES_ELSEWHERE)
    # What a scale is taken from by its magnitude lies on a level, and is stored as it is.
    exact = rounding.bits <= FEW_BITS or rounding.code == "absmax"
    level = 0.0 if exact else 2.0 ** (2 - rounding.bits)
    unit = tolerance(UNIT, dtypes_of(claim))
    most = SCALE_ARITHMETIC + room + level + SCALE_CASTS * unit
    average = SCALE_ARITHMETIC + room / NESTED + level / 2 + unit
    rows = [(f"a group of {one.name}", one.worst, most) for one in seen.scales]
    rows += [(f"all groups of {one.name} together", one.mean, average) for one in seen.scales]
    name, error, allowed = max(rows, key=lambda row: severity(abs(row[1]) / row[2]))
    message = (
        f"{name}: scales are off by {error:+.2%}; likely a kernel that spoils the block at an "
        "edge, or scales or offsets of other weights"
    )
    return judge_by(AtMost(allowed, note=f"for {name}"), abs(error), message)


@check(
    name="scale_rounding",
    group="base",
    reads=(BaseWeights,),
    unit="relative",
    bug="scales of 4-bit blocks that are cut off, and not rounded to the nearest",
)
def scale_rounding(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Scales of nf4 that are rounded themselves are rounded up as much as down.

    Reads how far the scales of all groups of the base are off. Fails when their mean is more than
    6 of its standard errors from zero, and more than a twentieth of what rounding one may cost
    (`theory.rounding.scale_error`).
    """
    seen, rounding = evidence.one(BaseWeights), theory_of(claim).rounding
    if rounding is None or rounding.code != "nf4" or not rounding.scale_error:
        return None
    count = 0 if seen is None else sum(one.groups for one in seen.scales)
    if seen is None or not count:
        return missing("scales of groups")
    mean = sum(one.mean * one.groups for one in seen.scales) / count
    error = math.sqrt(sum(one.spread**2 * one.groups for one in seen.scales)) / count
    message = (
        f"scales of all groups together are off by {mean:+.2%}, more than chance explains; likely "
        "cut off, or rounded one way, where the nearest value was due"
    )
    # The code that they are rounded to has steps of unequal size, which shows in many groups.
    most = max(SCALE_BIAS * error, rounding.scale_error * CODE_BIAS)
    return judge_by(AtMost(most), abs(mean), message)


@check(
    name="group_ends",
    group="base",
    reads=(BaseWeights,),
    unit="steps",
    bug="shifts that are rounded to a whole step, so that one end of a group's range is cut off",
)
def group_ends(evidence: Evidence, claim: Claim) -> Judgement | None:
    """A group's least and largest weight are stored as they are, where the format has them so.

    Reads how far both are from their stored values, in steps between two levels. Fails when in a
    layer that is more than a fiftieth of a step on average, or than casts explain. Of the shipped
    quantizers, quanto's 4 bits have a level at both ends. Not judged for others, nor where casts
    cost as much as such an error.
    """
    seen, rounding = evidence.one(BaseWeights), theory_of(claim).rounding
    if rounding is None or rounding.code != "range" or rounding.ratio is not None:
        return None
    # An end and the space between two levels are cast, each as large as many steps.
    room = END + 2.0**rounding.bits * END_CASTS * tolerance(UNIT, dtypes_of(claim))
    if room > END_CUT:
        return None
    if seen is None or not any(one.groups for one in seen.scales):
        return missing("ends of groups")
    worst = max(seen.scales, key=lambda one: severity(one.ends))
    message = (
        f"{worst.name}: the ends of its groups are off by {worst.ends:.2f} steps on average; "
        "likely a shift that was rounded, which cuts off what lies beyond"
    )
    return judge_by(AtMost(room, note=f"for {worst.name}"), worst.ends, message)


@check(
    name="stored_states",
    group="base",
    reads=(BaseWeights,),
    unit="bits",
    bug="scales, zero points or offsets of a quantizer that were cast along with the weights",
)
def stored_states(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Scales and offsets of quantized weights are as fine as the dtype that they are kept in.

    Reads how many bits the float32 values need that quantized layers keep beside their weights, of
    all layers together. Fails when those of one kind need fewer than 20 of 24 (or than the
    quantizer's `theory.state_bits`): they were in a smaller dtype once.
    """
    seen, theory = evidence.one(BaseWeights), theory_of(claim)
    if theory.rounding is None or claim.config.precision.weights != "float32":
        return None
    if seen is None or not seen.states:
        return missing("scales of quantized layers in float32")
    worst = min(seen.states, key=lambda one: one.bits)
    message = (
        f"what {worst.name} and its like keep needs {worst.bits} bits of 24; they were rounded to "
        "a smaller dtype, or to whole numbers"
    )
    # A checkpoint in half precision leaves no more to scales that are taken from it as they are.
    least = theory.state_bits if is_toy(claim) else min(theory.state_bits, SEEN_ELSEWHERE)
    bound = AtLeast(least, note=f"the least of {len(seen.states)} kinds")
    return judge_by(bound, worst.bits, message)
