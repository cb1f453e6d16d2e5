"""The quantizer stored what its theory says, and stayed as close as it should."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tunematrix.checks.figures import relative, severity, tolerance
from tunematrix.checks.verdict import Claim, Verdict, decide, missing
from tunematrix.evidence.events import BaseWeights, LogitError, Storage
from tunematrix.evidence.evidence import Evidence

BITS_TOLERANCE = 0.01
TOY = "toyworld://"
LEAST_ERROR = 0.1
"""Of what a quantizer may lose in theory. Measured 0.2 and more of it, in each of ten; weights of 8
bits that pass for 4 lose 0.08 at most."""
OF_ROUNDING = (0.95, 1.03)
"""A weight's error, of what plain rounding to the same format makes: 0.97 to 1.02 were measured
over eight quantizers. hqq looks for better zero points, and its own band is in its config."""
OF_ROUNDING_ANY = (0.5, 1.25)
"""The same for a model whose weights are not known to be as even as the toy world's."""
OF_A_GROUP, OF_A_GROUP_ANY = 2.0, 4.0
"""The error of a layer's worst group, of what plain rounding makes there, in the toy world and
elsewhere: 1.5 at most was measured over eight quantizers and three models."""
CASTS_OF_A_GROUP = 6
"""Units: a scale and a zero point that are cast move a group's largest values, and those are a few
times its mean. 4.8 were measured in MLX's 8 bits over bfloat16."""
UNIT = {"float32": 1e-6, "bfloat16": 2**-8, "float16": 2**-11}
"""The largest relative error of a weight that was only cast; float32's leaves room for arithmetic.
Scales and zero points are cast as well: two of them."""
PRODUCT = {"float32": 1e-5, "bfloat16": 1e-2, "float16": 2e-3}
"""Of a product in this dtype; a quarter of it was measured."""
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


def base_weights(evidence: Evidence, claim: Claim) -> Verdict:
    """Each weight of the loaded base is the checkpoint's, rounded plainly to its format."""
    seen = evidence.one(BaseWeights)
    if seen is None or not (seen.layers or seen.others):
        return missing("base_weights", "weights that the checkpoint has as well")
    unit = tolerance(UNIT, _dtypes(claim))
    rounding = claim.option("quantizer").get("theory", {}).get("rounding")
    low, high = _band(claim)
    rows = [(name, error, 0.0, unit) for name, error in seen.others]
    if rounding is not None or claim.option("quantizer").get("theory") == {}:
        rows += [
            (name, error, low * due, math.hypot(high * due, 2 * unit if due else unit))
            for name, error, due in seen.layers
        ]
    if rounding is not None and not seen.groups:
        return missing("base_weights", "groups of quantized weights")
    tensors = len(rows)
    of_a_group = OF_A_GROUP if _is_toy(claim) else OF_A_GROUP_ANY
    rows += [
        (f"a group of {name}", error, 0.0, math.hypot(of_a_group * due, CASTS_OF_A_GROUP * unit))
        for name, error, due in seen.groups
    ]
    name, error, least, most = max(rows, key=lambda row: _excess(*row[1:]))
    message = (
        f"{name} of the loaded base is off its checkpoint by {error:.4g} of its norm; rounding it "
        f"plainly to this format would make {least:.4g} to {most:.4g}: another format, other "
        "scales, or a loader that changes weights"
    )
    ok = _excess(error, least, most) <= 1
    bound = f"{least:.4g} to {most:.4g} for {name}, the worst of {tensors} tensors"
    return decide("base_weights", ok, error, bound, message, unit="relative")


def base_products(evidence: Evidence, claim: Claim) -> Verdict:
    """Each linear layer multiplies by the weight it stands for, forwards and backwards."""
    seen = evidence.one(BaseWeights)
    if seen is None or not seen.products:
        return missing("base_products", "products of layers that the checkpoint has as well")
    theory = claim.option("quantizer").get("theory", {})
    bound = tolerance(PRODUCT, _dtypes(claim)) * float(theory.get("product_rounding", 1))
    bits = theory.get("activation_bits")
    forward = bound if bits is None else max(bound, 2.0 ** (2 - int(bits)))
    rows = [("product", name, error, forward) for name, error, _ in seen.products]
    rows += [("gradient", name, error, bound) for name, _, error in seen.products]
    what, name, error, most = max(rows, key=lambda row: severity(row[2] / row[3]))
    message = (
        f"the {what} of {name} is off by {error:.3g} from that of the weight it stands for: a "
        "kernel that multiplies by something else, or computes in another dtype"
    )
    ok = error <= most
    return decide("base_products", ok, error, f"<= {most:.3g}", message, unit="relative")


def _band(claim: Claim) -> tuple[float, float]:
    """Return the least and the largest error of a weight, of what plain rounding makes."""
    if not _is_toy(claim):
        return OF_ROUNDING_ANY
    rounding = claim.option("quantizer").get("theory", {}).get("rounding") or {}
    low, high = rounding.get("ratio", OF_ROUNDING)
    return float(low), float(high)


def _is_toy(claim: Claim) -> bool:
    return str(claim.option("model")["path"]).startswith(TOY)


def _excess(error: float, least: float, most: float) -> float:
    """Return how much of its band an error uses up: above 1 outside of it, infinite below."""
    if error == 0 == least:
        return 0.0
    return error / most if most and least <= error < math.inf else math.inf


def _dtypes(claim: Claim) -> tuple[str, str]:
    """Return the dtypes that weights are kept and multiplied in."""
    if claim.option("method").get("trains_base"):
        return "float32", "float32"  # autocast lowers the arithmetic, and only of training
    return str(claim.option("precision")["weights"]), str(claim.option("precision")["compute"])


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
