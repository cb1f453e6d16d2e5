"""What an optimizer makes of its gradients in a watched process, beside its formula."""

from __future__ import annotations

import math

from tunematrix.checks.bound import AtMost, Exactly
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by
from tunematrix.checks.watched import trainers_in
from tunematrix.errors import counted
from tunematrix.evidence.evidence import Evidence
from tunematrix.probe.tunematrix_probe.records import SeenUpdate

UPDATE = 0.02
"""Largest deviation from the optimizer's formula, relative to the largest update of its tensor."""
UPHILL = 0.95
"""Share of elements that move along their gradient, above which steps go the wrong way."""
LEAST_ELEMENTS = 100
"""Elements of which such a share means something."""
OFTEN = 0.5
"""Share of steps that is no accident any more."""


@check(
    name="watched_update",
    group="watch",
    unit="of the largest update",
    bug="a hand-written AdamW with a wrong bias correction, weight decay that is applied twice",
)
def watched_update(evidence: Evidence, claim: Claim) -> Judgement | None:
    """An optimizer changes parameters by its formula.

    Reads some elements of each parameter before and after audited steps. AdamW, Adam and SGD are
    computed by their formulas, from the gradient and the optimizer's own state. Fails when the
    largest difference is above 2 % of the largest update of its tensor, beyond rounding; when a
    parameter is nan or infinite; or when nearly all elements of a foreign optimizer move along
    their gradient and not against it. Warns when weights change between the first two steps.
    """
    found = [
        one
        for process in trainers_in(evidence, "watched_update")
        for one in process.all(SeenUpdate)
    ]
    if not found:
        return None
    bound = AtMost(UPDATE)
    for one in found:
        if one.not_finite:
            text = f"step {one.step + 1} leaves nan or inf in {counted(one.not_finite, 'tensor')}"
            return judge_by(bound, math.nan, f"{text}; likely a rate that is too high, or float16")
    uphill = [one for one in found if (one.uphill or 0) > UPHILL and one.elements > LEAST_ELEMENTS]
    if len(uphill) > OFTEN * len(found):
        text = (
            f"{uphill[0].uphill:.0%} of the elements move along their gradient, which raises the "
            "loss; likely a sign is wrong in the optimizer, or maximize is set"
        )
        return judge_by(bound, uphill[0].uphill, text, provided=False, unit="share uphill")
    known = [(one.error, one) for one in found if one.error is not None]
    if not known:
        return None
    error, worst = max(known, key=lambda one: one[0] if math.isfinite(one[0]) else math.inf)
    text = (
        f"in step {worst.step + 1}, {worst.worst} was not changed as {worst.rule} would: likely "
        "another formula, weight decay that is applied twice, or something that writes into the "
        "weights after step()"
    )
    verdict = judge_by(bound, error, text)
    between = max((one.changed_between or 0 for one in found), default=0)
    if verdict.outcome == "passed" and between:
        text = (
            f"between the first two steps, {counted(between, 'tensor')} changed: something else "
            "than the optimizer changes weights, such as decay by hand"
        )
        return Judgement("warned", between, Exactly(0), text, "tensors")
    return verdict
