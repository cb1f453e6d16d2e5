"""Only the intended parameters changed, and all of them did."""

from __future__ import annotations

from tunematrix.checks.verdict import Claim, Verdict, decide, listed, missing
from tunematrix.evidence.evidence import Evidence
from tunematrix.evidence.events import Changed, Compute, OptimizerStep, Reload, Trainable

RELOAD_TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2, "float16": 5e-3}
"""Of what training changed, by dtype: PEFT loads adapters in float32, whatever they were."""


def trainable(evidence: Evidence, claim: Claim) -> Verdict:
    """Exactly the parameters that the method must train ask for a gradient."""
    seen = evidence.one(Trainable)
    if seen is None:
        return missing("trainable", "trainable parameters")
    absent = sorted({*seen.expected} - {*seen.actual})
    extra = sorted({*seen.actual} - {*seen.expected})
    message = (
        f"{len(absent)} of {len(seen.expected)} expected parameters don't train "
        f"({listed(absent)}); {len(extra)} unexpected ones do ({listed(extra)})"
    )
    measured = len(seen.actual)
    bound = f"{len(seen.expected)} by name"
    return decide("trainable", not absent and not extra, measured, bound, message, unit="tensors")


def moved(evidence: Evidence, claim: Claim) -> Verdict:
    """Every trained parameter changed; lora_A needs a second step, as lora_B starts at zero."""
    seen = evidence.one(Changed)
    if seen is None:
        return missing("moved", "parameters before and after")
    steps = sum(1 for s in evidence.all(OptimizerStep) if any(s.learning_rates))
    still = [n for n in seen.still if not (steps < 2 and "lora_A" in n)]
    zero = [n for n in seen.zero if "lora_B" in n]
    stuck = sorted({*still, *zero})
    total = len(seen.moved) + len(seen.still)
    message = (
        f"{len(stuck)} of {total} trained tensors never moved ({listed(stuck)}); likely a rate of "
        "0, a detached graph, or a layer that the loss doesn't reach"
    )
    return decide(
        "moved", bool(seen.moved) and not stuck, len(seen.moved), f"{total}", message,
        unit="tensors",
    )  # fmt: skip


def frozen(evidence: Evidence, claim: Claim) -> Verdict:
    """No frozen tensor changed by a single bit."""
    seen = evidence.one(Changed)
    if seen is None:
        return missing("frozen", "frozen tensors before and after")
    message = f"{len(seen.altered)} of {seen.frozen} frozen tensors changed: {listed(seen.altered)}"
    return decide("frozen", not seen.altered, len(seen.altered), "0", message, unit="tensors")


def reloaded(evidence: Evidence, claim: Claim) -> Verdict:
    """What was saved, loaded again, gives the trained model's outputs."""
    seen, compute = evidence.one(Reload), evidence.one(Compute)
    if seen is None or compute is None:
        return missing("reload", "a reloaded model")
    dtypes = (claim.option("precision")["compute"], *compute.trainable)
    own = claim.spec.reload
    bound = max(RELOAD_TOLERANCE[dtype] for dtype in dtypes) * seen.changed_by_training
    bound = own.max_difference if own is not None else bound
    message = (
        f"logits differ by {seen.max_difference:.3g} after saving and loading (training itself "
        f"changed them by {seen.changed_by_training:.3g}); a tensor wasn't saved, or loads as "
        "something else"
    )
    ok = seen.max_difference <= bound and seen.changed_by_training > 0
    return decide("reload", ok, seen.max_difference, f"<= {bound:.3g}", message, unit="logits")
