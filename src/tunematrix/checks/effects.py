"""What acts inside a training step: dropout, dtypes, and how much of each update survives."""

from __future__ import annotations

import math

from tunematrix.checks.figures import relative, severity, tolerance
from tunematrix.checks.verdict import Claim, Verdict, decide, listed, missing
from tunematrix.evidence.events import (
    AdapterDropout,
    AdapterFormula,
    Attached,
    Compute,
    Continuity,
    Draws,
    OptimizerStep,
    TrainedDtypes,
)
from tunematrix.evidence.evidence import Evidence

START_TOLERANCE = {"float32": 1e-5, "bfloat16": 9e-2, "float16": 5e-3}
"""Of the largest logit, by dtype of the arithmetic: DoRA divides by a norm and multiplies by it."""
DEVIATIONS = 6.0
"""Standard deviations that chance may take a share from its mean; one run in 500 million does."""
FORMULA_TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2, "float16": 4e-3}
LEAST_MOVED = 0.5
LEAST_INDEPENDENT = 1e-4
FACTOR_TOLERANCE = 1e-2
"""Of the factor by which dropout makes up for what it drops; half precision rounds each product."""


def adapter_formula(evidence: Evidence, claim: Claim) -> Verdict | None:
    """Each trained adapter computes, forwards and backwards, what its method's formula says."""
    if claim.option("method").get("trains_base"):
        return None
    seen, compute = evidence.one(AdapterFormula), evidence.one(Compute)
    if seen is None or compute is None or not seen.layers:
        return missing("adapter_formula", "an adapted layer")
    rows = [("output", name, error) for name, error, _, _ in seen.layers]
    rows += [("gradient", name, error) for name, _, error, _ in seen.layers]
    what, name, error = max(rows, key=lambda row: severity(row[2]))
    precision = claim.option("precision")
    dtypes = (precision["weights"], precision["compute"], *compute.trainable)
    bound = tolerance(FORMULA_TOLERANCE, dtypes)
    message = (
        f"the {what} of {name} is off by {error:.3g} from its formula's; a factor that is left "
        "out, a norm that takes a gradient, or an adapter that enters otherwise"
    )
    ok = error <= bound
    return decide("adapter_formula", ok, error, f"<= {bound:g}", message, unit="relative")


def adapter_rank(evidence: Evidence, claim: Claim) -> Verdict | None:
    """Each row of adapters' first factors says something that the others don't."""
    if claim.option("method").get("trains_base"):
        return None
    seen, start = evidence.one(AdapterFormula), evidence.one(Attached)
    if seen is None or not seen.layers or start is None:
        return missing("adapter_rank", "an adapted layer")
    found = [(f"{name}'s first factor", independence) for name, _, _, independence in seen.layers]
    if start.apart is not None:
        found.append(("all adapters' first factors, before training", start.apart))
    where, least = min(found, key=lambda one: (LEAST_INDEPENDENT <= one[1] <= 1, one[1]))
    message = (
        f"the rows of {where} depend on each other (least over largest singular value: "
        f"{least:.3g}); they were started alike or never drawn, so that there is less to train "
        "than was asked for"
    )
    bound = f">= {LEAST_INDEPENDENT:g}"
    ok = LEAST_INDEPENDENT <= least <= 1
    return decide("adapter_rank", ok, least, bound, message, unit="of the largest")


def attached(evidence: Evidence, claim: Claim) -> Verdict | None:
    """Training starts from the base: what was attached changes nothing yet."""
    seen = evidence.one(Attached)
    if seen is None:
        return missing("attached", "logits before training")
    if seen.drawn:
        return None  # adapters that relations compare start with values of their own
    dtype = claim.option("precision")["compute"]
    bound = tolerance(START_TOLERANCE, [dtype]) * seen.largest
    message = (
        f"attaching changed logits by {seen.difference:.3g} before any step; an adapter that "
        "doesn't start at zero, or a base that was changed on the way"
    )
    ok = seen.difference <= bound and 0 < seen.largest < math.inf
    return decide("attached", ok, seen.difference, f"<= {bound:.3g}", message, unit="logits")


def adapter_dropout(evidence: Evidence, claim: Claim) -> Verdict | None:
    """As many of the adapters' inputs are dropped as configured, and none where none should be."""
    settings = claim.option("method")["implementation"]
    if "dropout" not in settings:
        return None
    seen = evidence.one(AdapterDropout)
    if seen is None or not seen.inputs:
        return missing("adapter_dropout", "what entered the adapters")
    wanted, share = float(settings["dropout"]), seen.zeroed / seen.inputs
    room = DEVIATIONS * math.sqrt(wanted * (1 - wanted) / seen.inputs)
    message = (
        f"{share:.3%} of the adapters' inputs were dropped in training, configured are "
        f"{wanted:.3%}; dropout was ignored, or the model trained in evaluation mode"
    )
    bound = f"{wanted:g} within {room:.2g}" if wanted else "0"
    ok = abs(share - wanted) <= room
    return decide("adapter_dropout", ok, share, bound, message, unit="share of inputs")


def dropout_factor(evidence: Evidence, claim: Claim) -> Verdict | None:
    """What dropout lets through makes up for what it drops."""
    wanted = _dropout(claim)
    seen = evidence.one(AdapterDropout)
    if not wanted or claim.hides("masks"):
        return None
    if seen is None or seen.factor is None:
        return missing("dropout_factor", "what entered the adapters")
    expected = 1 / (1 - wanted)
    message = (
        f"what dropout let through was multiplied by {seen.factor:.5g}, not by {expected:.5g}; "
        "adapters learn at another scale than they are used at"
    )
    ok = relative(seen.factor, expected) <= FACTOR_TOLERANCE
    bound = f"{expected:.5g} within {FACTOR_TOLERANCE:.0%}"
    return decide("dropout_factor", ok, seen.factor, bound, message, unit="times")


def dropout_independent(evidence: Evidence, claim: Claim) -> Verdict | None:
    """Each row and each step draws a mask of its own."""
    wanted = _dropout(claim)
    seen = evidence.one(AdapterDropout)
    # Checkpointing sends a row through its layer twice, under one mask.
    alone = int(claim.train["batch_size"]) == 1 and claim.train["gradient_checkpointing"]
    if not wanted or alone or claim.hides("masks"):
        return None
    if seen is None or not seen.compared:
        return missing("dropout_independent", "masks of two rows or two steps")
    expected, share = wanted**2 + (1 - wanted) ** 2, seen.alike / seen.compared
    room = DEVIATIONS * math.sqrt(expected * (1 - expected) / seen.compared)
    message = (
        f"{share:.3%} of the masks of two rows or two steps agree, by chance {expected:.3%} do; "
        "a mask is shared or drawn again under the same seed"
    )
    bound = f"{expected:.4g} within {room:.2g}"
    ok = abs(share - expected) <= room
    return decide("dropout_independent", ok, share, bound, message, unit="share of pairs")


def _dropout(claim: Claim) -> float:
    return float(claim.option("method")["implementation"].get("dropout", 0.0))


def seed(evidence: Evidence, claim: Claim) -> Verdict | None:
    """Training draws from the seed that was asked for."""
    seen, wanted = evidence.one(Draws), int(claim.train["seed"])
    if seen is None and claim.hides("seed"):
        return None
    if seen is None:
        return missing("seed", "the seed that training began with")
    message = f"training began with seed {seen.seed}; a library's default, or a seed of its own"
    return decide("seed", seen.seed == wanted, seen.seed, str(wanted), message)


def trained_dtypes(evidence: Evidence, claim: Claim) -> Verdict:
    """Trained weights, their gradients and the optimizer's moments have the promised dtypes.

    A precision promises one to all of them; a quantizer, others to the methods it names.
    """
    seen = evidence.one(TrainedDtypes)
    if seen is None or not seen.parameters:
        return missing("trained_dtypes", "dtypes of what trains")
    if not seen.gradients and not claim.hides("gradients"):
        return missing("trained_dtypes", "dtypes of the gradients")
    optimizer = claim.option("optimizer")
    if not seen.state and not (optimizer["name"] == "sgd" and not optimizer["momentum"]):
        return missing("trained_dtypes", "dtypes of the optimizer's moments")
    own = claim.option("quantizer").get("trained", {}).get(claim.option("method")["name"])
    promised = set(own or [claim.option("precision")["trained"]])
    wanted = " and ".join(sorted(promised))
    found = {"weights": seen.parameters, "gradients": seen.gradients, "moments": seen.state}
    odd = {what: names for what, names in found.items() if names and {*names} != promised}
    measured = "; ".join(f"{what} {', '.join(names)}" for what, names in odd.items()) or wanted
    message = (
        f"{measured} where {wanted} was promised; adapters that follow their base's dtype, or an "
        "optimizer whose moments are rounded: small updates are lost"
    )
    return decide("trained_dtypes", not odd, measured, wanted, message)


def moved_share(evidence: Evidence, claim: Claim) -> Verdict:
    """Most elements that get a gradient differ after the step: rounding doesn't eat updates."""
    found = [step.moved for step in evidence.all(OptimizerStep) if step.moved is not None]
    if not found:
        return missing("moved_share", "how many elements moved")
    # What is no share, nan and infinity among it, is worse than any.
    least = min(found, key=lambda share: (0 <= share <= 1, share))
    message = (
        f"{least:.1%} of the elements with a gradient moved in the worst of {len(found)} steps; "
        "the rest was rounded away, as by weights in bfloat16 under a small learning rate"
    )
    return decide(
        "moved_share", LEAST_MOVED <= least <= 1, least, f">= {LEAST_MOVED:g}", message,
        unit="share of elements",
    )  # fmt: skip


def continuity(evidence: Evidence, claim: Claim) -> Verdict | None:
    """From one step to the next, nothing else changes what trains, or what its optimizer keeps."""
    seen = evidence.one(Continuity)
    if seen is None and claim.hides("between steps"):
        return None
    if seen is None or seen.links <= int(claim.train["max_steps"]):
        return missing("continuity", "what trains between all steps")
    message = (
        f"{listed(seen.broken)}: something else than the optimizer changed them; likely weights "
        "that are tied, cast, clipped or averaged in between, or a checkpoint that lacks something"
    )
    broken = len(seen.broken)
    return decide("continuity", not broken, broken, "0", message, unit="breaks")
