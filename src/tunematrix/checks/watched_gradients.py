"""What reaches an optimizer in a watched process."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from tunematrix.checks.bound import AtMost, Exactly, Near
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by
from tunematrix.checks.watched import trainers_in, worst_of
from tunematrix.checks.watched_losses import weights_of
from tunematrix.errors import counted
from tunematrix.evidence.evidence import Evidence
from tunematrix.evidence.watched import WatchedProcess
from tunematrix.probe.tunematrix_probe.records import SeenClip, SeenGradient, SeenStep

SCALE = 0.01
"""Share by which the scale of a gradient may be off."""
HARD_CLIP = 100
"""A norm that is so many times the limit, in every step, hides something."""
OFTEN = 0.5
"""Share of steps that is no accident any more."""


@check(
    name="watched_gradient",
    group="watch",
    unit="times our own",
    bug=(
        "gradients that are changed between backward pass and step, micro-batches that are missing "
        "in them, gradients that several processes average twice or not at all"
    ),
)
def watched_gradient(evidence: Evidence, claim: Claim) -> Judgement | None:
    """The gradient that reaches the optimizer is the sum of those of the step's backward passes.

    Reads both in audited steps: each forward pass is made again with the same inputs and random
    numbers, and multiplied with the gradient that arrived at its output. Fails when the sum differs
    by more than the dtypes allow, or when a mean over tokens, or over processes, reaches the
    optimizer at another scale (by 1 %) than clipping and a GradScaler account for. Warns of another
    scale of other losses, unless it makes a mean of a sum; and where elements are smaller than they
    should be, and never larger, as clipping by hand leaves them.
    """
    trainers = trainers_in(evidence, "watched_gradient")
    found = [one for process in trainers for one in process.all(SeenGradient)]
    if not found:
        return None
    worst = max(found, key=_excess)
    if _excess(worst) > 1 and len(trainers) > 1:
        return worst_of(list(_of_all(trainers)))
    return worst_of([_of_one(one, process) for process in trainers for one in _seen(process)])


def _seen(process: WatchedProcess) -> Sequence[SeenGradient]:
    """Return the gradients of a process, the worst first."""
    return sorted(process.all(SeenGradient), key=_excess, reverse=True)


def _of_one(one: SeenGradient, process: WatchedProcess) -> Judgement:
    """Judge a step of a process that trains alone."""
    found = _judged(one, scale := _scale(one), one.error)
    if found.outcome == "passed" or not math.isfinite(scale):
        return found
    if one.error > one.tolerance:
        return replace(found, outcome="warned", message=_BY_HAND) if _is_cut(one) else found
    weights = [total for (_, step), total in weights_of(process).items() if step == one.step]
    weight = weights[0] if len(weights) == 1 else math.nan
    if abs(weight * scale - 1) <= SCALE:
        return replace(found, outcome="passed", measured=1.0, message="")
    return found if abs(weight - 1) <= SCALE else replace(found, outcome="warned")


_BY_HAND = (
    "no element that reaches the optimizer is larger than that of the step's backward passes, or "
    "of another sign: right if the loop clips each by hand"
)


def _is_cut(one: SeenGradient) -> bool:
    """Whether elements are as they should be or smaller, of the same sign, and not of one pass."""
    if one.last_error is not None and one.last_error <= one.tolerance:
        return False
    pairs = [(one.due * a, b) for a, b in zip(one.own, one.reached, strict=False)]
    return bool(pairs) and all(
        a * b >= 0 and abs(b) <= abs(a) * (1 + one.tolerance) for a, b in pairs
    )


def _scale(one: SeenGradient) -> float:
    return one.scale / one.due if one.due else math.nan


def _excess(one: SeenGradient) -> float:
    """Return how far a gradient is off, in units of what is allowed; infinite if it is none."""
    off = max(abs(_scale(one) - 1) / _share(one), one.error / one.tolerance)
    return off if math.isfinite(off) else math.inf


def _share(one: SeenGradient) -> float:
    return max(SCALE, one.tolerance)


def _judged(one: SeenGradient, scale: float, error: float) -> Judgement:
    bound = Near(1, _share(one), note=f"differing by at most {one.tolerance:.2g} of the largest")
    cause = f"the worst tensor ({one.worst}) differs by {error:.2g} of its largest element"
    if one.last_error is not None and one.last_error <= one.tolerance:
        cause = f"it is that of the last of {one.passes} micro-batches alone"
    elif error <= one.tolerance:
        cause = "its direction is right, and its scale isn't"
    text = (
        f"in step {one.step + 1}, what reaches the optimizer is {scale:.4g} times the sum over "
        f"{counted(one.passes, 'backward pass')}: {cause}; look for what changes gradients between "
        "backward() and step()"
    )
    return judge_by(bound, scale, text, provided=error <= one.tolerance)


def _of_all(trainers: Sequence[WatchedProcess]) -> Iterator[Judgement]:
    """Yield a judgement of each step by the mean of what its processes computed."""
    steps: dict[tuple[int, int], list[SeenGradient]] = defaultdict(list)
    for process in trainers:
        for one in process.all(SeenGradient):
            steps[one.optimizer, one.step].append(one)
    for group in steps.values():
        first = group[0]
        lengths = {len(one.own) for one in group} | {len(one.reached) for one in group}
        if len(group) != len(trainers) or len(lengths) != 1 or not first.own:
            continue  # sharded, or not looked at everywhere: nothing can be said
        mean = [
            math.fsum(values) / len(group) for values in zip(*(g.own for g in group), strict=True)
        ]
        ours = [first.due * value for value in mean]
        squares = math.fsum(value * value for value in ours)
        if not squares:
            continue
        scale = math.fsum(a * b for a, b in zip(ours, first.reached, strict=True)) / squares
        differences = (abs(b - scale * a) for a, b in zip(ours, first.reached, strict=True))
        largest = max(map(abs, first.reached))
        yield _judged(first, scale, max(differences) / largest if largest else math.inf)


@check(
    name="watched_zeroed",
    group="watch",
    unit="steps",
    bug="a loop without zero_grad, or with one between backward() and step()",
)
def watched_zeroed(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Gradients are set to zero between steps, and not before a step has used them.

    Reads, at each step, whether gradients of the step before were still there when the first
    backward pass began, and backward passes whose gradients were zeroed before any optimizer had
    used them. Fails when gradients are kept and nothing zeroes them until the step, or when passes
    are lost in more than half of the steps. Warns of passes that are lost in fewer, as where a step
    is left out because of nan.
    """
    steps = [
        step
        for process in trainers_in(evidence, "watched_zeroed")
        for step in process.all(SeenStep)
    ]
    if not steps:
        return None
    kept = [step for step in steps if step.kept and not step.zeroed]
    lost = [step for step in steps if step.discarded]
    if kept:
        text = (
            f"in step {kept[0].step + 1}, {counted(kept[0].kept, 'tensor')} still had the gradient "
            "of the step before, and the new one was added to it; call zero_grad() once a step"
        )
        return judge_by(Exactly(0), len(kept), text)
    if not lost:
        return Judgement("passed", 0, Exactly(0), "")
    gone = counted(lost[0].discarded, "backward pass")
    text = (
        f"in step {lost[0].step + 1}, the gradients of {gone} "
        "were zeroed before an optimizer had used them; call zero_grad() after step(), and not in "
        "each micro-batch"
    )
    is_often = len(lost) > OFTEN * len(steps)
    return Judgement("failed" if is_often else "warned", len(lost), Exactly(0), text)


@check(
    name="watched_clipping",
    group="watch",
    unit="times the limit",
    bug=(
        "clipping before the backward pass, of the parameters of another model, or of a generator "
        "that is used up"
    ),
)
def watched_clipping(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Where gradients are clipped, what reaches the optimizer is within the limit.

    Reads each call that clips, and the norm that reaches the optimizer in audited steps. Fails when
    that is above the limit, or when what was clipped has no gradient yet or isn't what the
    optimizer steps with. Warns when the norm is more than a hundred times the limit in every step.
    """
    steps = [
        step
        for p in trainers_in(evidence, "watched_clipping")
        for step in p.all(SeenStep)
        if step.clips
    ]
    steps = [step for step in steps if step.with_gradient]  # or watched_trainable tells
    if not steps:
        return None
    worst = worst_of([found for step in steps for found in _clips(step)])
    if worst is not None and worst.outcome == "failed":
        return worst
    norms = [max((_times(clip) for clip in step.clips), default=0.0) for step in steps]
    if len(norms) > 1 and min(norms) > HARD_CLIP:
        text = (
            f"the norm is at least {min(norms):.3g} times the limit in every step, so the step's "
            "size depends on clipping alone; likely a loss that is summed, or not divided"
        )
        return Judgement("warned", min(norms), AtMost(HARD_CLIP), text)
    return worst


def _times(clip: SeenClip) -> float:
    usable = clip.way == "norm" and clip.norm is not None and clip.limit > 0
    return clip.norm / clip.limit if usable and clip.norm is not None else 0.0


def _clips(step: SeenStep) -> Iterator[Judgement]:
    """Yield what is to say of the calls that clip in one step."""
    bound = AtMost(1, note="as it reaches the optimizer")
    at = f"in step {step.step + 1},"
    last = step.clips[-1]
    if all(clip.before_backward for clip in step.clips):
        text = f"{at} gradients are clipped before the backward pass makes them; do it afterwards"
        yield judge_by(bound, "before backward", text, provided=False)
    elif not any(clip.tensors for clip in step.clips):
        text = (
            f"{at} what is clipped has no gradient at all; likely a generator of parameters that "
            "was used up by a call before: make a list of it"
        )
        yield judge_by(bound, "no tensor", text, provided=False)
    elif not any(clip.ours for clip in step.clips):
        text = f"{at} what is clipped isn't what the optimizer steps with; likely another model's"
        yield judge_by(bound, "other tensors", text, provided=False)
    elif last.way == "norm" and step.gradient_norm is not None and last.limit > 0:
        times = step.gradient_norm / last.limit
        text = (
            f"{at} the norm that reaches the optimizer is {step.gradient_norm:.4g}, and the limit "
            f"{last.limit:g}; likely not all of the optimizer's tensors are clipped, or their "
            "gradients change afterwards"
        )
        yield judge_by(AtMost(1.01, note=bound.note), times, text)
    else:
        yield Judgement("passed", None, bound, "")
