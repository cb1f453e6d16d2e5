"""What a base has beside its weights is as fine as its dtype: norms, positions, scales, offsets."""

from __future__ import annotations

from tunematrix.checks.arithmetic import severity, tolerance
from tunematrix.checks.bound import AtLeast, AtMost
from tunematrix.checks.quantization import dtypes_of, is_toy, theory_of
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by, missing
from tunematrix.evidence.events import BaseWeights
from tunematrix.evidence.evidence import Evidence

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
