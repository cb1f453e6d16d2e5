"""The quantizer stored what its theory says, and stayed as close as it should."""

from __future__ import annotations

from collections.abc import Mapping

from tunematrix.checks.figures import relative, severity
from tunematrix.checks.verdict import Claim, Verdict, decide, missing
from tunematrix.evidence.events import LogitError, Storage
from tunematrix.evidence.evidence import Evidence

BITS_TOLERANCE = 0.01
LEAST_ERROR = 0.1
"""Of what a quantizer may lose in theory. Measured 0.2 and more of it, in each of ten; weights of 8
bits that pass for 4 lose 0.08 at most."""
DTYPE_BITS = {"float32": 32, "bfloat16": 16, "float16": 16}


def stored_bits(evidence: Evidence, claim: Claim) -> Verdict:
    """Each linear layer stores as many bits per weight as the quantizer's theory gives."""
    seen = evidence.one(Storage)
    if seen is None:
        return missing("stored_bits", "stored bytes")
    quantizer = claim.option("quantizer")
    if "theory" not in quantizer:
        return missing("stored_bits", f"a theory in quantizer/{quantizer['name']}.yaml")
    theory, plain = quantizer["theory"], plain_bits(claim)
    layers = [
        (name, 8 * size / (shape[0] * shape[1]), theoretical_bits(theory, shape, plain))
        for name, shape, size in seen.layers
    ]
    if not layers:
        return missing("stored_bits", "a linear layer")
    name, measured, wanted = max(layers, key=lambda layer: severity(relative(*layer[1:])))
    message = (
        f"{name} stores {measured:.3f} bits per weight, {quantizer['name']} in "
        f"theory {wanted:.3f}; it wasn't quantized, or not this way"
    )
    ok = relative(measured, wanted) <= BITS_TOLERANCE
    bound = f"{wanted:.3f} within {BITS_TOLERANCE:.0%}, the worst of {len(layers)} layers"
    return decide("stored_bits", ok, measured, bound, message, unit="bits/weight")


def plain_bits(claim: Claim) -> int:
    """Return the bits of an unquantized weight: full training keeps float32."""
    if claim.option("method").get("trains_base"):
        return DTYPE_BITS["float32"]
    return DTYPE_BITS[claim.option("precision")["weights"]]


def theoretical_bits(theory: Mapping[str, float], shape: tuple[int, int], plain: int) -> float:
    """Return stored bits per weight of an (out, in) layer.

    `theory` has `weight_bits` and, for each group of `group_size` weights, each supergroup of
    `supergroup_size`, each output row and the whole tensor, fixed `*_bits` and `*_values`: numbers
    kept in an unquantized weight's dtype of `plain` bits. An empty one describes such a weight.
    """
    if not theory.get("weight_bits"):
        return float(plain)
    rows, columns = shape
    sizes = {
        "group": float(theory.get("group_size", 1)),
        "supergroup": float(theory.get("supergroup_size", 1)),
        "row": float(columns),
        "tensor": float(rows * columns),
    }
    shared = (
        (float(theory.get(f"{part}_bits", 0)) + plain * float(theory.get(f"{part}_values", 0)))
        / size
        for part, size in sizes.items()
    )
    return float(theory["weight_bits"]) + sum(shared)


def logit_error(evidence: Evidence, claim: Claim) -> Verdict:
    """The loaded base's logits stay close to the original's, and not suspiciously equal."""
    seen = evidence.one(LogitError)
    if seen is None:
        return missing("logit_error", "logits of the loaded base")
    own = claim.spec.logit_error
    theory = float(claim.option("quantizer").get("theory", {}).get("logit_error", 0.0))
    rounding = float(claim.option("precision")["logit_error"])
    bound = own.max if own is not None else theory + rounding
    # A spec that bounds it knows its model; nothing is known of how little that one may lose.
    least = theory * LEAST_ERROR if own is None else 0.0
    if theory > 0 and seen.relative == 0:
        message = "logits equal the original's bit for bit: nothing was quantized"
        ok = False
    else:
        loses = "more" if seen.relative > bound else "less"
        message = (
            f"logits are off by {seen.relative:.3g}; the quantizer loses {loses} than it should"
        )
        ok = least <= seen.relative <= bound
    wanted = f"{least:g} to {bound:g}" if least else f"<= {bound:g}"
    return decide("logit_error", ok, seen.relative, wanted, message, unit="relative")
