"""Only the intended parameters changed, all of them did, and nothing but the steps changed them."""

from __future__ import annotations

from tunematrix.checks.arithmetic import tolerance
from tunematrix.checks.bound import AtLeast, AtMost, Exactly
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by, listed, missing
from tunematrix.evidence.events import (
    Arrivals,
    Changed,
    Compute,
    Continuity,
    OptimizerStep,
)
from tunematrix.evidence.evidence import Evidence

LEAST_MOVED = 0.5
ARRIVAL_TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2, "float16": 4e-3}
"""Relative to the largest, by dtype of the gradients: clipping rounds each product once."""


@check(
    name="moved",
    group="training",
    reads=(
        Changed,
        OptimizerStep,
    ),
    unit="tensors",
    bug=(
        "checkpointing that cuts the graph, so that adapters never train although a loss is "
        "logged "
        "([transformers#26221](https://github.com/huggingface/transformers/issues/26221), "
        "[open-unlearning#178](https://github.com/locuslab/open-unlearning/issues/178)); a "
        "rate of 0"
    ),
)
def moved(evidence: Evidence, claim: Claim) -> Judgement:
    """Every trained parameter changes.

    Reads the trained parameters before and after training. Fails when one is unchanged, or a
    lora_B is zero at the end. A lora_A may be unchanged after a single step, since lora_B
    starts at zero.
    """
    seen = evidence.one(Changed)
    if seen is None:
        return missing("parameters before and after")
    steps = sum(1 for s in evidence.all(OptimizerStep) if any(s.learning_rates))
    still = [n for n in seen.still if not (steps < 2 and "lora_a" in n.lower())]
    zero = [n for n in seen.zero if "lora_b" in n.lower()]
    stuck = sorted({*still, *zero})
    due = len(seen.moved) + len(still)
    message = (
        f"{len(stuck)} of {due} trained tensors never moved ({listed(stuck)}); likely a rate of "
        "0, a detached graph, or a layer that the loss doesn't reach"
    )
    return judge_by(Exactly(due), due - len(stuck), message, provided=bool(seen.moved))


@check(
    name="moved_share",
    group="training",
    reads=(OptimizerStep,),
    unit="share of elements",
    bug=(
        "updates that bfloat16 weights round away, while a few large ones make the tensor look "
        "trained"
    ),
)
def moved_share(evidence: Evidence, claim: Claim) -> Judgement:
    """Most elements that get a gradient change in the step: rounding doesn't swallow updates.

    Reads the elements that got a gradient, before and after each of the first steps. Fails when
    fewer than half of them changed in one.
    """
    shares = [step.moved for step in evidence.all(OptimizerStep) if step.moved is not None]
    if not shares:
        return missing("how many elements moved")
    # What is no share, nan and infinity among it, is worse than any.
    least = min(shares, key=lambda share: (0 <= share <= 1, share))
    message = (
        f"{least:.1%} of the elements with a gradient moved in the worst of {len(shares)} steps; "
        "the rest was rounded away, as by weights in bfloat16 under a small learning rate"
    )
    return judge_by(AtLeast(LEAST_MOVED), least, message, provided=least <= 1)


@check(
    name="arrived",
    group="training",
    reads=(Arrivals, Compute, OptimizerStep),
    unit="of the gradient",
    bug=(
        "a step with the gradient of another one, gradients that are zeroed too late or too early, "
        "or changed on their way to the optimizer"
    ),
)
def arrived(evidence: Evidence, claim: Claim) -> Judgement | None:
    """In every step the optimizer gets what the step's backward passes brought, cut alike.

    Reads what autograd brings to each trained parameter, added up, and what the optimizer gets
    (in MLX nothing can be read between steps, and several processes average). Fails when a tensor
    differs by more than rounding, but for one factor for all of them.
    """
    seen, compute = evidence.one(Arrivals), evidence.one(Compute)
    if not is_alone(claim):
        return None
    if seen is None or compute is None or not _all_steps(seen, evidence):
        return missing("what backward passes brought in each step")
    message = (
        f"{seen.place} got a gradient that is off by {seen.error:.3g} from what its backward "
        "passes brought; one that is left of another step, zeroed at the wrong time, or changed "
        "on its way"
    )
    return judge_by(AtMost(tolerance(ARRIVAL_TOLERANCE, compute.trainable)), seen.error, message)


@check(
    name="every_step",
    group="training",
    reads=(Arrivals, OptimizerStep),
    unit="updates",
    bug=(
        "an update of a copy that is dropped, parameters that are put back within a step, an "
        "optimizer that steps with tensors that the model has replaced"
    ),
)
def every_step(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Every step changes each parameter that has a gradient and a rate.

    Reads the bits of trained float32 parameters before and after each step. Fails when one is as it
    was, although its gradient is at least a thousandth of the step's largest.
    """
    seen = evidence.one(Arrivals)
    if not is_alone(claim):
        return None
    if seen is None or not _all_steps(seen, evidence):
        return missing("what each step changed")
    message = (
        f"{listed(seen.idle)}: left as it was, although it had a gradient; likely the update went "
        "into a copy, or the model has another tensor than the optimizer"
    )
    return judge_by(Exactly(0), len(seen.idle), message)


@check(
    name="continuity",
    group="training",
    reads=(Continuity,),
    unit="breaks",
    bug=(
        "weights that are tied, cast, averaged or clamped without the optimizer; checkpoints "
        "that restore other moments"
    ),
)
def continuity(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Between two steps nothing changes the trained parameters or the optimizer's moments.

    Reads the bits of parameters and moments after each step, and before the next (or at the end; in
    MLX nothing can be read between steps). Fails when something differs.
    """
    seen = evidence.one(Continuity)
    if seen is None and claim.hides("between steps"):
        return None
    if seen is None or seen.links <= claim.config.train.max_steps:
        return missing("what trains between all steps")
    message = (
        f"{listed(seen.broken)}: something else than the optimizer changed them; likely weights "
        "that are tied, cast, clipped or averaged in between, or a checkpoint that lacks something"
    )
    return judge_by(Exactly(0), len(seen.broken), message)


@check(
    name="frozen",
    group="training",
    reads=(Changed,),
    unit="tensors",
    bug="a base that is tied, cast or merged into while an adapter trains",
)
def frozen(evidence: Evidence, claim: Claim) -> Judgement:
    """No frozen tensor changes by a single bit.

    Reads digests of all frozen tensors, quantization state included. Fails when one bit
    differs, or nothing was compared.
    """
    seen = evidence.one(Changed)
    if seen is None:
        return missing("frozen tensors before and after")
    # Where the base itself is trained, nothing need be left to compare.
    if not seen.frozen and not claim.config.method.trains_base:
        return missing("a frozen tensor")
    message = (
        f"{len(seen.altered)} of {seen.frozen} frozen tensors changed ({listed(seen.altered)}); "
        "likely a base that wasn't frozen, or an adapter merged into it"
    )
    return judge_by(Exactly(0), len(seen.altered), message)


def is_alone(claim: Claim) -> bool:
    """Whether one process trains whole parameters, and shows what it does between steps."""
    launcher = claim.config.launcher
    return launcher.processes == 1 and not launcher.shards and not claim.hides("between steps")


def _all_steps(seen: Arrivals, evidence: Evidence) -> bool:
    return 0 < seen.steps == len(evidence.all(OptimizerStep))
