"""Training that was to be interrupted and resumed really was."""

from __future__ import annotations

from itertools import pairwise

from tunematrix.checks.bound import Exactly
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by, missing
from tunematrix.evidence.events import OptimizerStep
from tunematrix.evidence.evidence import Evidence


@check(
    name="interrupted",
    group="training",
    reads=(OptimizerStep,),
    bug="an interruption that is ignored, so that resuming proves nothing",
)
def interrupted(evidence: Evidence, claim: Claim) -> Judgement | None:
    """A second optimizer takes over after the configured step, and only there.

    Reads which optimizer took each step. Fails when training that was to be resumed after
    `train.interrupt_at` steps continued with its first optimizer, or when any other training
    made a second optimizer.
    """
    asked = claim.config.train.interrupt_at
    steps = evidence.all(OptimizerStep)
    if not steps:
        return missing("an optimizer step") if asked else None
    taken_over = [
        str(after.step) for before, after in pairwise(steps) if before.stretch != after.stretch
    ]
    if not taken_over and not asked:
        return None
    measured = f"after step {' and '.join(taken_over)}" if taken_over else "never"
    message = (
        f"another optimizer took over {measured}; the interruption was ignored, or a "
        "trainer made itself a new optimizer on the way"
    )
    return judge_by(Exactly(f"after step {asked}" if asked else "never"), measured, message)
