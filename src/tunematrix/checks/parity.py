"""An engine gives what the model is by definition, and what another engine's adapter made of it."""

from __future__ import annotations

import math
from typing import Literal

from tunematrix.checks.figures import severity
from tunematrix.checks.verdict import Claim, Verdict, decide, missing, unbounded
from tunematrix.evidence.events import Parity, Transfer
from tunematrix.evidence.evidence import Evidence

FORMATS = {"peft", "mlx-lm"}

Quantity = Literal["logits", "gradients", "trace"]


def parity_logits(evidence: Evidence, claim: Claim) -> Verdict:
    """The base's logits are those of the recorded truth."""
    cause = "likely another attention scale, rotary base, norm or weight"
    return _held("logits", evidence, claim, "logits", cause) or _nothing("logits")


def parity_gradients(evidence: Evidence, claim: Claim) -> Verdict:
    """Each parameter's gradient is that of the recorded truth."""
    cause = "likely a loss over another count, or a backward pass that scales, cuts or leaves out"
    unit = "of the parameter's largest"
    return _held("gradients", evidence, claim, unit, cause) or _nothing("gradients")


def parity_trace(evidence: Evidence, claim: Claim) -> Verdict | None:
    """Plain SGD follows the recorded trace of losses; not asked of half precision."""
    cause = "likely another rate, divisor or order of the batches"
    return _held("trace", evidence, claim, "nats", cause)


def transfer(evidence: Evidence, claim: Claim) -> Verdict:
    """Adapters of either format give here what they gave in their own engine."""
    seen = evidence.all(Transfer)
    if {t.source for t in seen} != FORMATS:
        return missing("transfer", f"an adapter of each format ({', '.join(sorted(FORMATS))})")
    if claim.spec.transfer is None:
        return unbounded("transfer", "transfer.max_difference")
    bound = claim.spec.transfer.max_difference
    worst = max(seen, key=lambda t: severity(t.difference))
    message = (
        f"logits of the {worst.source} adapter differ by {worst.difference:.3g} from what its own "
        f"engine gave (training changed them by {worst.changed_by_training:.3g}); likely a scale, "
        "a layer or a magnitude lost, or a matrix the wrong way round"
    )
    trained = all(bound < t.changed_by_training < math.inf for t in seen)
    ok = trained and worst.difference <= bound
    return decide("transfer", ok, worst.difference, f"<= {bound:g}", message, unit="logits")


def figures(evidence: Evidence) -> dict[str, float]:
    """Return what records of several machines are compared by: gradient norms and losses."""
    return {
        f"parity_{parity.quantity}.{name}": value
        for parity in evidence.all(Parity)
        for name, value in parity.values.items()
    }


def _held(
    quantity: Quantity, evidence: Evidence, claim: Claim, unit: str, cause: str
) -> Verdict | None:
    name, bounds = f"parity_{quantity}", claim.spec.parity
    bound: float | None = getattr(bounds, quantity, None)
    seen = next((p for p in evidence.all(Parity) if p.quantity == quantity), None)
    if seen is None:
        return None if bound is None else _nothing(quantity)
    if bound is None:
        return unbounded(name, f"parity.{quantity}")
    message = f"off by {seen.difference:.3g} at {seen.where}; {cause}"
    ok = seen.difference <= bound
    return decide(name, ok, seen.difference, f"<= {bound:g}", message, unit=unit)


def _nothing(quantity: Quantity) -> Verdict:
    return missing(f"parity_{quantity}", f"{quantity} beside the truth")
