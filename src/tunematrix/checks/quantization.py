"""The quantizer stores as many bits as its theory says, and its error is as small."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from statistics import fmean

from tunematrix.checks.arithmetic import relative, severity, tolerance
from tunematrix.checks.bound import AtMost, Between, Near
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by, missing
from tunematrix.configuration.theory import Theory
from tunematrix.evidence.events import BaseWeights, LogitError, Storage
from tunematrix.evidence.evidence import Evidence

BITS_TOLERANCE = 0.01
TOY = "toyworld://"
FEW_BITS = 4
"""Up to which most levels of a group are used."""
LEAST_ERROR = 0.1
"""Of what a quantizer may lose in theory. Measured 0.2 and more of it, in each of ten; weights of 8
bits that pass for 4 lose 0.08 at most."""
ROUNDING_BAND = (0.95, 1.03)
"""A weight's error, of what plain rounding to the same format makes: 0.97 to 1.02 were measured
over eight quantizers. hqq looks for better zero points, and its own band is in its config."""
SINGLE_LAYER = 0.03
"""By how much a single layer may be outside of a band that is in a config, which the mean of a
model's layers keeps to: what better zero points bring scatters by 0.006 in layers of 128 groups."""
ROUNDING_BAND_ELSEWHERE = (0.5, 1.25)
"""The same for a model whose weights are not known to be as even as the toy world's."""
GROUP_LIMIT, GROUP_LIMIT_ELSEWHERE = 2.0, 4.0
"""The error of a layer's worst group, of what plain rounding makes there, in the toy world and
elsewhere: 1.5 at most was measured over eight quantizers and three models."""
GROUP_CASTS = 6
"""Units: a scale and a zero point that are cast move a group's largest values, and those are a few
times its mean. 4.8 were measured in MLX's 8 bits over bfloat16."""
UNIT = {"float32": 1e-6, "bfloat16": 2**-8, "float16": 2**-11}
"""The largest relative error of a weight that was only cast; float32's leaves room for arithmetic.
Scales and zero points are cast as well: two of them."""
PRODUCT = {"float32": 1e-5, "bfloat16": 1e-2, "float16": 2e-3}
"""Of a product in this dtype; a quarter of it was measured."""
PLAIN = Theory()
"""What unquantized weights promise."""
DTYPE_BITS = {"float32": 32, "bfloat16": 16, "float16": 16}


@check(
    name="stored_bits",
    group="base",
    reads=(Storage,),
    unit="bits/weight",
    bug=(
        "quantization that is skipped without a warning "
        "([unsloth#5344](https://github.com/unslothai/unsloth/issues/5344))"
    ),
)
def stored_bits(evidence: Evidence, claim: Claim) -> Judgement:
    """Each linear layer stores as many bits per weight as the quantizer's theory gives.

    Reads the bytes of each linear layer with all quantization state, without its bias. Fails
    when one is more than 1 % off its quantizer's theory.
    """
    seen = evidence.one(Storage)
    if seen is None:
        return missing("stored bytes")
    quantizer = claim.config.quantizer
    if (theory := quantizer.theory) is None:
        return missing(f"a theory in quantizer/{quantizer.name}.yaml")
    plain = plain_bits(claim)
    layers = [
        (name, 8 * size / (shape[0] * shape[1]), theoretical_bits(theory, shape, plain))
        for name, shape, size in seen.layers
    ]
    if not layers:
        return missing("a linear layer")
    name, measured, wanted = max(layers, key=lambda layer: severity(relative(*layer[1:])))
    message = (
        f"{name} stores {measured:.3f} bits per weight, {quantizer.name} in "
        f"theory {wanted:.3f}; it wasn't quantized, or not this way"
    )
    bound = Near(wanted, BITS_TOLERANCE, note=f"the worst of {len(layers)} layers")
    return judge_by(bound, measured, message)


def plain_bits(claim: Claim) -> int:
    """Return the bits of an unquantized weight: full training keeps float32."""
    if claim.config.method.trains_base:
        return DTYPE_BITS["float32"]
    return DTYPE_BITS[claim.config.precision.weights]


def theoretical_bits(theory: Theory, shape: tuple[int, int], plain: int) -> float:
    """Return stored bits per weight of an (out, in) layer.

    Beside its own bits, a weight has its share of what is kept for its group, its group of groups,
    its row and its layer; `plain` are the bits of an unquantized weight, and of each value kept.
    """
    if theory.weight_bits is None:
        return float(plain)
    rows, columns = shape
    is_apart = theory.rounding is not None and theory.rounding.within_rows
    group = min(theory.group_size, columns) if is_apart else theory.group_size
    shared = (
        (theory.group_bits, theory.group_values, group),
        (theory.supergroup_bits, theory.supergroup_values, theory.supergroup_size),
        (theory.row_bits, theory.row_values, columns),
        (theory.tensor_bits, theory.tensor_values, rows * columns),
    )
    return theory.weight_bits + sum((bits + plain * values) / size for bits, values, size in shared)


@check(
    name="base_weights",
    group="base",
    reads=(BaseWeights,),
    unit="relative",
    bug=(
        "another format than the configured one, scales of other groups, a checkpoint that is "
        "quantized twice, weights that a loader initialized at random"
    ),
)
def base_weights(evidence: Evidence, claim: Claim) -> Judgement:
    """Each weight of the loaded base is the checkpoint's, rounded to its format.

    Reads each tensor of the loaded base, dequantized, and the tensor of its name in the
    checkpoint's file. The expected error is that of plain rounding to the quantizer's format,
    by tunematrix's own formulas, for the whole tensor and for its worst group. Fails when a
    quantized weight's error isn't 0.95 to 1.03 times that in the toy world (elsewhere half to
    1.25 times), or the mean of all layers isn't in `theory.rounding.ratio`; when a group's
    error is more than twice that (elsewhere four times); or when casting alone doesn't explain
    how an unquantized tensor changed.
    """
    seen = evidence.one(BaseWeights)
    if seen is None or not (seen.layers or seen.others):
        return missing("weights that the checkpoint has as well")
    unit = tolerance(UNIT, dtypes_of(claim))
    rows = list(weight_rows(seen, claim, unit, _band(claim)))
    rows += _together(seen, claim, unit)
    if theory_of(claim).rounding is not None and not seen.groups:
        return missing("groups of quantized weights")
    tensors = len(seen.layers) + len(seen.others)
    limit = GROUP_LIMIT if is_toy(claim) else GROUP_LIMIT_ELSEWHERE
    rows += [
        (f"a group of {name}", error, 0.0, math.hypot(limit * due, GROUP_CASTS * unit))
        for name, error, due in seen.groups
    ]
    name, error, least, most = worst_weight(rows)
    message = (
        f"{name} of the loaded base is off its checkpoint by {error:.4g} of its norm; rounding it "
        f"plainly to this format would make {least:.4g} to {most:.4g}: another format, other "
        "scales, or a loader that changes weights"
    )
    bound = Between(least, most, note=f"for {name}, the worst of {tensors} tensors")
    return judge_by(bound, error, message)


def weight_rows(
    seen: BaseWeights, claim: Claim, unit: float, band: tuple[float, float]
) -> Iterator[tuple[str, float, float, float]]:
    """Yield name, error, least and largest error of each tensor.

    `unit` is the largest relative error of a tensor that is only cast; `band` the least and the
    largest error of a quantized layer, of what plain rounding makes.
    """
    low, high = band
    for name, error in seen.others:
        yield name, error, 0.0, unit
    if theory_of(claim).rounding is not None or claim.config.quantizer.theory == PLAIN:
        for name, error, due in seen.layers:
            yield name, error, low * due, math.hypot(high * due, 2 * unit if due else unit)


def worst_weight(
    rows: Iterable[tuple[str, float, float, float]],
) -> tuple[str, float, float, float]:
    """Return the row that uses up most of its room, or is furthest beyond it."""
    return max(rows, key=lambda row: _excess(*row[1:]))


@check(
    name="base_products",
    group="base",
    reads=(BaseWeights,),
    unit="relative",
    bug=(
        "kernels that multiply by other weights, forwards or backwards, or in another dtype "
        "([bitsandbytes#1623](https://github.com/bitsandbytes-foundation/bitsandbytes/issues/1623))"
    ),
)
def base_products(evidence: Evidence, claim: Claim) -> Judgement:
    """Each linear layer multiplies by its own weight, forwards and backwards.

    Reads each linear layer's products with random rows and their gradients, and the same
    computed from its dequantized weight. Fails when they differ by more than the rounding of
    the arithmetic.
    """
    seen = evidence.one(BaseWeights)
    if seen is None or not seen.products:
        return missing("products of layers that the checkpoint has as well")
    theory = theory_of(claim)
    bound = tolerance(PRODUCT, dtypes_of(claim)) * theory.product_rounding
    bits = theory.activation_bits
    forward = bound if bits is None else max(bound, 2.0 ** (2 - bits))
    rows = [("product", name, error, forward) for name, error, _ in seen.products]
    rows += [("gradient", name, error, bound) for name, _, error in seen.products]
    what, name, error, most = max(rows, key=lambda row: severity(row[2] / row[3]))
    kernel = "a kernel that multiplies by something else, or computes in another dtype"
    message = f"the {what} of {name} is off by {error:.3g} from that of the weight it stands for: "
    if math.isinf(error):
        dtype = dtypes_of(claim)[0]
        message = f"{name} can't multiply rows of {dtype}: it is in another dtype; or "
    return judge_by(AtMost(most), error, message + kernel)


def _band(claim: Claim) -> tuple[float, float]:
    """Return the least and the largest error of a weight, of what plain rounding makes."""
    if not is_toy(claim):
        return ROUNDING_BAND_ELSEWHERE
    ratio = _own_ratio(claim)
    return ROUNDING_BAND if ratio is None else (ratio[0] - SINGLE_LAYER, ratio[1] + SINGLE_LAYER)


def _own_ratio(claim: Claim) -> tuple[float, float] | None:
    rounding = theory_of(claim).rounding
    return rounding.ratio if rounding is not None and is_toy(claim) else None


def _together(
    seen: BaseWeights, claim: Claim, unit: float
) -> Iterator[tuple[str, float, float, float]]:
    """Yield the row of all layers together, where the quantizer has a band of its own."""
    if (ratio := _own_ratio(claim)) is not None and seen.layers:
        error, due = (fmean(getattr(one, of) for one in seen.layers) for of in ("error", "due"))
        low, high = ratio
        yield "the mean layer", error, low * due, math.hypot(high * due, 2 * unit)


def theory_of(claim: Claim) -> Theory:
    """Return the quantizer's theory; without one, that of plain weights."""
    return claim.config.quantizer.theory or PLAIN


def is_toy(claim: Claim) -> bool:
    """Whether the base is one of the toy world, whose weights are known."""
    return claim.config.model.path.startswith(TOY)


def _excess(error: float, least: float, most: float) -> float:
    """Return how much of its band an error uses up: above 1 outside of it, infinite below."""
    if error == 0 == least:
        return 0.0
    return error / most if most and least <= error < math.inf else math.inf


def dtypes_of(claim: Claim) -> tuple[str, str]:
    """Return the dtypes that weights are kept and multiplied in."""
    if claim.config.method.trains_base:
        return "float32", "float32"  # autocast lowers the arithmetic, and only of training
    return claim.config.precision.weights, claim.config.precision.compute


@check(
    name="logit_error",
    group="training",
    reads=(LogitError,),
    unit="relative",
    bug=(
        "a wrong kernel or group size; a quantizer that did nothing, or that computes with an "
        "unquantized copy"
    ),
)
def logit_error(evidence: Evidence, claim: Claim) -> Judgement:
    """The loaded base's logits are close to the original's, but not suspiciously equal.

    Reads the logits of the loaded base and of the float32 original. Fails when they differ by
    more than theory and rounding explain (or `logit_error.max`), by less than a tenth of theory
    if the spec sets no bound, or not at all although weights had to be quantized.
    """
    seen = evidence.one(LogitError)
    if seen is None:
        return missing("logits of the loaded base")
    own = claim.spec.logit_error
    theory = theory_of(claim).logit_error
    rounding = claim.config.precision.logit_error
    most = own.max if own is not None else theory + rounding
    # A spec that bounds it knows its model; nothing is known of how little that one may lose.
    least = theory * LEAST_ERROR if own is None else 0.0
    is_untouched = theory > 0 and seen.relative == 0
    loses = "more" if seen.relative > most else "less"
    message = (
        "logits equal the original's bit for bit: nothing was quantized"
        if is_untouched
        else f"logits are off by {seen.relative:.3g}; the quantizer loses {loses} than it should"
    )
    bound = Between(least, most) if least else AtMost(most)
    return judge_by(bound, seen.relative, message, provided=not is_untouched)
