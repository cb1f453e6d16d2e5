"""Training that was to be interrupted and resumed really was."""

from __future__ import annotations

from itertools import pairwise

from tunematrix.checks.verdict import Claim, Verdict, decide, missing
from tunematrix.evidence.events import OptimizerStep
from tunematrix.evidence.evidence import Evidence


def interrupted(evidence: Evidence, claim: Claim) -> Verdict | None:
    """Another optimizer took over after the step that was asked for, and nowhere else."""
    asked = int(claim.train.get("interrupt_at", 0))
    steps = evidence.all(OptimizerStep)
    if not steps:
        return missing("interrupted", "an optimizer step") if asked else None
    found = [after.step for before, after in pairwise(steps) if before.stretch != after.stretch]
    wanted = [asked] if asked else []
    if found == wanted == []:
        return None
    measured = ", ".join(map(str, found)) or "never"
    message = (
        f"another optimizer took over after steps: {measured}; the interruption was ignored, or a "
        "trainer made itself a new optimizer on the way"
    )
    bound = f"after step {asked}" if asked else "never"
    return decide("interrupted", found == wanted, measured, bound, message)
