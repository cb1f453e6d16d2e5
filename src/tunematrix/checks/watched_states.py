"""In which precision and mode a watched process trains, with which others, and what it saves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from tunematrix.checks.bound import AtLeast, AtMost, Exactly
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by, listed
from tunematrix.checks.watched import trainers_in, worst_of
from tunematrix.errors import counted
from tunematrix.evidence.evidence import Evidence
from tunematrix.evidence.watched import WatchedProcess
from tunematrix.probe.tunematrix_probe.records import (
    SeenEvaluation,
    SeenModel,
    SeenPrecision,
    SeenSaved,
    SeenStep,
    SeenWeights,
)

HALF = {"fp16": "float16", "bf16": "bfloat16"}
"""What Accelerate calls a dtype."""
EVALUATION = 3
"""Forward passes without gradients in a row that make an evaluation."""


@check(
    name="watched_precision",
    group="watch",
    bug=(
        "mixed precision that was asked for and isn't used, a GradScaler that scales nothing, "
        "gradients that are clipped before they are unscaled"
    ),
)
def watched_precision(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Matrix products are computed in the precision that was asked for.

    Reads the dtypes of matrix products in a recomputed forward pass, the contexts of autocast that
    the process entered, and its GradScaler. Fails when autocast or Accelerate was asked for a dtype
    and no product has it; when a GradScaler is there and the loss isn't multiplied by its factor;
    when gradients are clipped while they still are; or when all gradients in float16 are zeros.
    """
    found: list[Judgement] = []
    for process in trainers_in(evidence, "watched_precision"):
        found += [one for seen in process.all(SeenPrecision) for one in _products(seen)]
        found += [one for step in process.all(SeenStep) for one in _scaled(step)]
    return worst_of(found)


def _products(one: SeenPrecision) -> Iterator[Judgement]:
    if not one.products:
        return
    asked = {name.rpartition(":")[2] for name in one.entered} | {one.autocast}
    asked |= {HALF.get(one.asked, "")}
    asked -= {"", "float32"}
    done = ", ".join(sorted(one.products))
    if asked and not asked & set(one.products):
        wanted = ", ".join(sorted(asked))
        text = (
            f"{wanted} was asked for, and all matrix products are in {done}; likely autocast is "
            "for another device, or the forward pass is outside of it"
        )
        yield judge_by(Exactly(wanted), done, text)
    else:
        yield Judgement("passed", done, None, "")


def _scaled(step: SeenStep) -> Iterator[Judgement]:
    scaler, at = step.scaler, f"in step {step.step + 1},"
    if scaler is None or not scaler.enabled:
        return
    if not scaler.scaled_loss:
        text = f"{at} a GradScaler steps, and the loss wasn't scaled: call scaler.scale(loss)"
        yield judge_by(Exactly("scaled"), "not scaled", f"{text}.backward()")
    if any(clip.scaled and clip.tensors for clip in step.clips):
        text = (
            f"{at} gradients are clipped while they are still multiplied by {scaler.factor:g}; "
            "call scaler.unscale_(optimizer) first"
        )
        yield judge_by(Exactly("unscaled"), "scaled", text)
    if step.zero_gradient and step.zero_gradient == step.with_gradient:
        text = f"{at} all gradients are zeros; likely they are too small for float16"
        yield judge_by(AtLeast(1), 0, text, unit="tensors")


@check(
    name="watched_mode",
    group="watch",
    unit="of the passes",
    bug=(
        "an evaluation that leaves the model in evaluation mode, a loop that never calls train(), "
        "evaluations with dropout"
    ),
)
def watched_mode(evidence: Evidence, claim: Claim) -> Judgement | None:
    """A model with dropout trains in training mode, and is evaluated in evaluation mode.

    Reads the mode of the model, and of each dropout that drops something, in all forward passes.
    Fails when it trains in evaluation mode, or its dropouts are switched off after some steps.
    Warns when some dropouts are off from the start; and when three passes or more without gradients
    are made in a row in training mode, or all of them are. Not judged where the mode changes
    nothing.
    """
    found: list[Judgement] = []
    for process in trainers_in(evidence, "watched_mode"):
        models = process.all(SeenModel)
        dropouts = sum(model.dropouts for model in models)
        if dropouts or any(model.batch_norms for model in models):
            found += _training(process.all(SeenStep), dropouts)
            last = {one.model: one for one in process.all(SeenEvaluation)}
            found += [one for seen in last.values() for one in _evaluated(seen)]
    return worst_of(found)


def _training(steps: Sequence[SeenStep], dropouts: int) -> Iterator[Judgement]:
    seen = [step for step in steps if step.training is not None]
    if not seen:
        return
    bound = AtLeast(1, note="in training mode")
    wrong = [step for step in seen if step.training == 0]
    share = sum(step.training or 0 for step in seen) / len(seen)
    if wrong and seen[0].training != 0:
        text = (
            f"from step {wrong[0].step + 1} on, the model trains in evaluation mode, and it began "
            "in training mode; likely an evaluation leaves it so: call model.train() after it"
        )
        yield judge_by(bound, share, text, provided=False)
    elif len(wrong) * 2 > len(seen):
        text = (
            "the model trains in evaluation mode, so its dropout does nothing; call model.train()"
        )
        if dropouts:
            yield judge_by(bound, share, text, provided=False)
        else:
            yield Judgement("warned", share, bound, "batch norm trains in evaluation mode")
    else:
        yield from _dropouts(seen, bound, share)


def _dropouts(steps: Sequence[SeenStep], bound: AtLeast, share: float) -> Iterator[Judgement]:
    first, most = steps[0].dropouts_off, max(step.dropouts_off for step in steps)
    if most > first:
        at = next(step.step for step in steps if step.dropouts_off > first)
        text = (
            f"from step {at + 1} on, {counted(most, 'dropout', verb=True)} in evaluation mode, and "
            f"{first} in the first step; likely an evaluation leaves a part of the model so"
        )
        yield judge_by(bound, share, text, provided=False)
    elif first:
        text = f"{counted(first, 'dropout', verb=True)} in evaluation mode while the model trains"
        yield Judgement("warned", share, bound, text)
    else:
        yield Judgement("passed", share, bound, "")


def _evaluated(one: SeenEvaluation) -> Iterator[Judgement]:
    is_long = one.longest_effective >= EVALUATION
    if not is_long and not 1 < one.effective == one.passes:
        return
    what = f"{one.longest_effective} forward passes without gradients were made in a row"
    what = what if is_long else f"all {one.passes} forward passes without gradients were made"
    text = (
        f"{what} in training mode, so dropout or batch norm falsify what they measure; call "
        "model.eval() before, unless dropout is what you measure"
    )
    bound = AtMost(EVALUATION - 1)
    yield Judgement("warned", one.longest_effective, bound, text, "passes in a row")


@check(
    name="watched_ranks",
    group="watch",
    unit="steps",
    bug=(
        "a model that isn't wrapped, so that each process trains alone; gradients that are "
        "averaged in some processes only; weights that begin differently"
    ),
)
def watched_ranks(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Processes that train together have the same gradients, and so the same weights.

    Reads digests of both in audited steps: of all that trains, or of what isn't sharded where
    something is. Fails when they differ between processes.
    """
    steps: dict[tuple[int, int], list[SeenWeights]] = defaultdict(list)
    for process in trainers_in(evidence, "watched_ranks"):
        for one in process.all(SeenWeights):
            if one.world_size > 1 and (one.whole or one.replicated):
                steps[one.optimizer, one.step].append(one)
    groups = [group for group in steps.values() if len(group) > 1]
    if not groups:
        return None
    bound = Exactly(0)
    differing = [group for group in groups if _differ(group)]
    if not differing:
        return Judgement("passed", 0, bound, "")
    first = differing[0]
    is_whole = all(one.whole for one in first)
    apart = is_whole and len({one.gradients for one in first}) > 1
    what = "gradients" if apart else "weights" if is_whole else "weights that aren't sharded"
    cause = (
        "torch.distributed isn't in use, so each trains alone"
        if not any(one.backend for one in first)
        else "likely the model isn't wrapped (DistributedDataParallel, accelerator.prepare), or "
        "called past its wrapper"
        if what == "gradients"
        else "likely they began with other weights, or one of them changes its own"
    )
    text = f"in step {first[0].step + 1}, {what} differ between {len(first)} processes; {cause}"
    return judge_by(bound, len(differing), text)


def _differ(group: Sequence[SeenWeights]) -> bool:
    if not all(one.whole for one in group):  # what isn't sharded must be the same all the same
        return len({one.replicated_weights for one in group}) > 1
    return len({one.gradients for one in group}) > 1 or len({one.weights for one in group}) > 1


@check(
    name="watched_checkpoint",
    group="watch",
    unit="tensors",
    bug="a checkpoint of a copy that never trained, or of the model as it was before",
)
def watched_checkpoint(evidence: Evidence, claim: Claim) -> Judgement | None:
    """What is saved is what was trained.

    Reads the tensors of each file that torch or safetensors saves, beside those of the models in
    memory at that moment. Fails when trained tensors are saved as they were at the start, or with
    nan. Warns when some have other values, as an average over steps has, or are missing.
    """
    found = [
        one for process in trainers_in(evidence, "watched_checkpoint") for one in _saved(process)
    ]
    return worst_of(found)


def _saved(process: WatchedProcess) -> Iterator[Judgement]:
    bound = Exactly(0)
    for one in process.all(SeenSaved):
        if not one.matched or one.matched * 2 < one.tensors:
            continue  # an optimizer's state, another network, or something else
        if one.as_at_start or one.not_finite:
            count = one.as_at_start or one.not_finite
            what = "are as they were at the start" if one.as_at_start else "hold nan or inf"
            text = f"{one.name}: {counted(count, 'saved tensor')} {what}: "
            names = listed(one.differing_names) or "the model's own"
            cause = "likely a copy was saved, and not the model that trains"
            yield judge_by(bound, count, f"{text}{names}; {cause}")
        elif one.differing:
            text = (
                f"{one.name}: not as in the model, {counted(one.differing, 'saved tensor')}: "
                f"{listed(one.differing_names)}; right if they are an average, or merged"
            )
            yield Judgement("warned", one.differing, bound, text)
        elif one.missing and one.matched == one.tensors:
            text = (
                f"{one.name}: lacks {counted(one.missing, 'trained tensor')}: "
                f"{listed(one.missing_names)}; right if another file has them"
            )
            yield Judgement("warned", one.missing, bound, text)
        else:
            yield Judgement("passed", 0, bound, "")
