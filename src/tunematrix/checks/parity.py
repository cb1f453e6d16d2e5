"""An engine gives the model's outputs by definition, and those of another engine's adapter."""

from __future__ import annotations

import math
from typing import Literal

from tunematrix.checks.arithmetic import severity
from tunematrix.checks.bound import AtMost
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by, missing, unbounded
from tunematrix.evidence.events import Parity, Transfer
from tunematrix.evidence.evidence import Evidence

FORMATS = {"peft", "mlx-lm"}

Quantity = Literal["logits", "gradients", "trace"]


@check(
    name="parity_logits",
    group="parity",
    reads=(Parity,),
    unit="logits",
    bug=(
        "wrong attention scales, windows, rotary bases, activations or norms; experts that are "
        "weighed otherwise; weights that load with other values"
    ),
)
def parity_logits(evidence: Evidence, claim: Claim) -> Judgement:
    """The base's logits are the recorded ones.

    Reads the logits on recorded rows, and those that the architecture's definition gives in
    float64. Fails when they differ by more than `parity.logits`.
    """
    cause = "likely another attention scale, rotary base, norm or weight"
    return _against_truth("logits", evidence, claim, cause) or _unrecorded("logits")


@check(
    name="parity_gradients",
    group="parity",
    reads=(Parity,),
    unit="of the parameter's largest",
    bug=(
        "losses averaged over the wrong count; backward passes that scale, clip or leave out "
        "a tensor"
    ),
)
def parity_gradients(evidence: Evidence, claim: Claim) -> Judgement:
    """Each parameter's gradient is the recorded one.

    Reads random sums of each parameter's gradient, on rows that hold every token, and the
    recorded sums. Fails when one differs by more than `parity.gradients` of its parameter's
    largest entry, or a parameter has no gradient.
    """
    cause = "likely a loss over another count, or a backward pass that scales, cuts or leaves out"
    return _against_truth("gradients", evidence, claim, cause) or _unrecorded("gradients")


@check(
    name="parity_trace",
    group="parity",
    reads=(Parity,),
    unit="nats",
    bug="updates with another learning rate, batches in another order",
)
def parity_trace(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Plain SGD follows the recorded losses; not judged in half precision.

    Reads the losses of 20 steps of plain SGD. Fails when one differs from the recorded loss by
    more than `parity.trace`.
    """
    cause = "likely another rate, divisor or order of the batches"
    return _against_truth("trace", evidence, claim, cause)


@check(
    name="transfer",
    group="transfer",
    reads=(Transfer,),
    unit="logits",
    bug="alpha used as the scale, A and B swapped, a tensor or a magnitude that is left out",
)
def transfer(evidence: Evidence, claim: Claim) -> Judgement:
    """Adapters of PEFT and of mlx-lm give here the logits of their own engine.

    Reads the logits with an adapter saved by PEFT and with one saved by mlx-lm (the other
    engine's is converted), and those that each gave in its own engine. Fails when one differs
    by more than `transfer.max_difference`, or when the adapter changes no more than that.
    """
    seen = evidence.all(Transfer)
    if {t.source for t in seen} != FORMATS:
        return missing(f"an adapter of each format ({', '.join(sorted(FORMATS))})")
    if claim.spec.transfer is None:
        return unbounded("transfer.max_difference")
    bound = claim.spec.transfer.max_difference
    worst = max(seen, key=lambda t: severity(t.difference))
    message = (
        f"logits of the {worst.source} adapter differ by {worst.difference:.3g} from what its own "
        f"engine gave (training changed them by {worst.changed_by_training:.3g}); likely a scale, "
        "a layer or a magnitude lost, or a matrix the wrong way round"
    )
    trained = all(bound < t.changed_by_training < math.inf for t in seen)
    return judge_by(AtMost(bound), worst.difference, message, provided=trained)


def _against_truth(
    quantity: Quantity, evidence: Evidence, claim: Claim, cause: str
) -> Judgement | None:
    bound: float | None = getattr(claim.spec.parity, quantity, None)
    seen = next((p for p in evidence.all(Parity) if p.quantity == quantity), None)
    if seen is None:
        return None if bound is None else _unrecorded(quantity)
    if bound is None:
        return unbounded(f"parity.{quantity}")
    message = f"off by {seen.difference:.3g} at {seen.where}; {cause}"
    return judge_by(AtMost(bound), seen.difference, message)


def _unrecorded(quantity: Quantity) -> Judgement:
    return missing(f"{quantity} beside the truth")
