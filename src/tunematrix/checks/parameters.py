"""Only the intended parameters changed, all of them did, and nothing but the steps changed them."""

from __future__ import annotations

from tunematrix.checks.bound import AtLeast, Exactly
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by, listed, missing
from tunematrix.evidence.events import (
    Changed,
    Continuity,
    OptimizerStep,
)
from tunematrix.evidence.evidence import Evidence

LEAST_MOVED = 0.5


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

    Reads sums over the bits of parameters and moments after each step, and before the next (or
    at the end; in MLX nothing can be read between steps). Fails when one sum differs.
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
