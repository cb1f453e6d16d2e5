"""Only the intended parameters changed, and all of them did."""

from __future__ import annotations

import math

from tunematrix.checks.figures import tolerance
from tunematrix.checks.verdict import Claim, Verdict, decide, listed, missing, unbounded
from tunematrix.evidence.events import (
    Changed,
    Merged,
    OptimizerStep,
    Reload,
    SavedSettings,
    Trainable,
)
from tunematrix.evidence.evidence import Evidence

RELOAD_TOLERANCE = {"float32": 1e-5, "bfloat16": 8e-2, "float16": 5e-3}
"""Of what training changed, by dtype of the arithmetic: a trained model stays under the trainer's
autocast, and one that was loaded rounds elsewhere. The worst of 20 seeds was 3.6 % off, DoRA over
NF4 in bfloat16; in full precision none was."""


def trainable(evidence: Evidence, claim: Claim) -> Verdict:
    """Exactly the parameters that the method must train ask for a gradient."""
    seen = evidence.one(Trainable)
    if seen is None:
        return missing("trainable", "trainable parameters")
    absent = sorted({*seen.expected} - {*seen.actual})
    extra = sorted({*seen.actual} - {*seen.expected})
    message = (
        f"{len(absent)} of {len(seen.expected)} expected parameters don't train "
        f"({listed(absent)}); {len(extra)} unexpected ones do ({listed(extra)}); likely target "
        "modules that match other layers, or a base that wasn't frozen"
    )
    ok = bool(seen.expected) and not absent and not extra
    bound = f"{len(seen.expected)} by name"
    return decide("trainable", ok, len(seen.actual), bound, message, unit="tensors")


def moved(evidence: Evidence, claim: Claim) -> Verdict:
    """Every trained parameter changed; lora_A needs a second step, as lora_B starts at zero."""
    seen = evidence.one(Changed)
    if seen is None:
        return missing("moved", "parameters before and after")
    steps = sum(1 for s in evidence.all(OptimizerStep) if any(s.learning_rates))
    still = [n for n in seen.still if not (steps < 2 and "lora_a" in n.lower())]
    zero = [n for n in seen.zero if "lora_b" in n.lower()]
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
    # Where the base itself is trained, nothing need be left to compare.
    if not seen.frozen and not claim.option("method").get("trains_base"):
        return missing("frozen", "a frozen tensor")
    message = (
        f"{len(seen.altered)} of {seen.frozen} frozen tensors changed ({listed(seen.altered)}); "
        "likely a base that wasn't frozen, or an adapter merged into it"
    )
    return decide("frozen", not seen.altered, len(seen.altered), "0", message, unit="tensors")


def reloaded(evidence: Evidence, claim: Claim) -> Verdict:
    """What was saved, loaded again, gives the trained model's outputs."""
    seen = evidence.one(Reload)
    if seen is None:
        return missing("reload", "a reloaded model")
    own = claim.spec.reload
    share = tolerance(RELOAD_TOLERANCE, (claim.option("precision")["compute"],))
    bound = share * seen.changed_by_training if own is None else own.max_difference
    message = (
        f"logits differ by {seen.max_difference:.3g} after saving and loading (training itself "
        f"changed them by {seen.changed_by_training:.3g}); a tensor wasn't saved, or loads as "
        "something else"
    )
    ok = seen.max_difference <= bound and 0 < seen.changed_by_training < math.inf
    return decide("reload", ok, seen.max_difference, f"<= {bound:.3g}", message, unit="logits")


def merged(evidence: Evidence, claim: Claim) -> Verdict | None:
    """The adapter merged into its base gives the trained model's outputs."""
    seen, bound = evidence.one(Merged), claim.spec.merge
    if seen is None:
        asked = bound is not None or claim.option("meters")["merge"]
        return missing("merge", "a merged model") if asked else None
    if bound is None:
        return unbounded("merge", "merge.max")
    changed = seen.changed_by_training
    share = seen.max_difference / changed if changed else math.nan
    message = (
        f"logits differ by {seen.max_difference:.3g} after merging, {share:.2%} of what training "
        "changed; the merge rounds, or leaves out a factor, a layer or a magnitude"
    )
    ok = share <= bound.max and changed < math.inf
    return decide("merge", ok, share, f"<= {bound.max:g}", message, unit="of what training changed")


def saved_settings(evidence: Evidence, claim: Claim) -> Verdict:
    """What lies beside saved weights, settings and tokenizer, is what they were trained with."""
    seen = evidence.all(SavedSettings)
    if not seen:
        return missing("saved_settings", "the settings beside what was saved")
    changed = [f"{one.folder}/{text}" for one in seen for text in one.changed]
    message = (
        f"{listed(changed)}; who loads it gets another model, or one that doesn't stop: a "
        "setting that wasn't saved, or that training changed"
    )
    return decide("saved_settings", not changed, len(changed), "0", message, unit="settings")
