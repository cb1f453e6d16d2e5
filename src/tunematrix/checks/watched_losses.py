"""The loss of a watched process beside the cross-entropy of its own logits."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from tunematrix.checks.bound import Exactly, Near
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by
from tunematrix.checks.watched import trainers_in, worst_of
from tunematrix.errors import counted
from tunematrix.evidence.evidence import Evidence
from tunematrix.evidence.watched import WatchedProcess
from tunematrix.probe.tunematrix_probe.records import (
    ProbeStarted,
    SeenGradient,
    SeenLoss,
    SeenStep,
)

FITS = 0.98
"""Share of positions whose gradient is a cross-entropy's, for the loss to be called one."""
OFF = 0.02
"""Share by which weights, and values, may differ from what is expected."""
UNEQUAL = 1.2
"""Ratio of the weights of tokens in one step that is unusual."""

Key = tuple[int, int]
"""Model and step."""


@check(
    name="watched_loss",
    group="watch",
    bug=(
        "a loss that isn't divided by the micro-batches it is summed over, a micro-batch whose "
        "loss never reaches the step, labels that don't count, nan"
    ),
)
def watched_loss(evidence: Evidence, claim: Claim) -> Judgement | None:
    """A language model's loss is the mean cross-entropy of the labelled tokens of a step.

    Reads the loss of each step and, in audited steps, what each position weighs in it, by the
    gradient at its logits. Fails when a loss is nan or infinite; when the weights of a step sum up
    to less than 1 in all of these steps, because some micro-batch is missing; or when labelled
    positions don't count. What gradients are multiplied by afterwards, as some loops do, counts as
    part of the weight. Warns when the weights of several micro-batches sum up to their number, and
    when tokens of one step weigh differently, by a fifth or more, as a mean over means of unequal
    micro-batches makes them. Only nan is judged where the loss isn't a cross-entropy.
    """
    trainers = trainers_in(evidence, "watched_loss")
    steps = [step for process in trainers for step in process.all(SeenStep)]
    finite = [one for one in steps if one.loss is not None]
    if bad := [one for one in finite if not math.isfinite(one.loss or 0)]:
        text = f"the loss of step {bad[0].step + 1} is {bad[0].loss}; {_nan_cause(bad, steps)}"
        return judge_by(Exactly(0, note="nan or infinite"), len(bad), text, unit="steps")
    found = [one for process in trainers for one in _labels_lost(process)]
    found += _sums(trainers)
    if not found and finite:
        return Judgement("passed", 0, Exactly(0, note="nan or infinite"), "", "steps")
    return worst_of(found)


def _nan_cause(bad: Sequence[SeenStep], steps: Sequence[SeenStep]) -> str:
    share = f"{len(bad)} of {counted(len(steps), 'step')} are so"
    return f"{share}; likely a rate that is too high, float16, or a batch without any label"


def _labels_lost(process: WatchedProcess) -> Iterator[Judgement]:
    for one in process.all(SeenLoss):
        if one.fits < FITS or not one.missing:
            continue
        total = one.counted + one.missing
        if one.missing > OFF * total:
            text = (
                f"in step {one.step + 1}, {one.missing} of {counted(total, 'labelled position')} "
                "don't count in the loss; look for what leaves them out"
            )
            yield judge_by(Exactly(0), one.missing, text, unit="labels that don't count")


def _sums(trainers: Sequence[WatchedProcess]) -> list[Judgement]:
    """Judge what the weights of all positions of a step sum up to, over all processes."""
    sums: dict[Key, list[float]] = defaultdict(list)
    passes: dict[Key, list[SeenLoss]] = defaultdict(list)
    by_hand = rescaled(trainers[0]) if len(trainers) == 1 else {}
    for process in trainers:
        for one in process.all(SeenLoss):
            passes[one.model, one.step].append(one)
        for key, total in weights_of(process).items():
            either = (total, total * by_hand.get(key[1], 1.0))
            # A mean that is spoilt afterwards is the gradient's affair.
            sums[key].append(min(either, key=lambda weight: abs(weight - 1)))
    together = max((_together(process) for process in trainers), default=1)
    totals = {
        key: math.fsum(values) / len(values)
        for key, values in sums.items()
        if all(map(math.isfinite, values)) and len(values) in (1, together)
    }
    return [*_totals(totals, passes), *_unequal(passes)]


def weights_of(process: WatchedProcess) -> Mapping[Key, float]:
    """Return what all tokens of a step weigh together in its backward passes; 1 in a mean.

    It is nan where the loss isn't a cross-entropy whose tokens weigh alike.
    """
    factors = _factors(process)
    found: dict[Key, float] = defaultdict(float)
    for one in process.all(SeenLoss):
        weight = one.weight_sum / factors.get(one.step, 1.0) if _is_plain(one) else math.nan
        found[one.model, one.step] += weight
    return dict(found)


def rescaled(process: WatchedProcess) -> Mapping[int, float]:
    """Return by what the gradients of a step were multiplied between backward pass and step.

    Beside clipping, that is, and by step; steps whose gradients differ otherwise are left out.
    """
    return {
        one.step: one.scale / one.due
        for one in process.all(SeenGradient)
        if one.due and one.error <= one.tolerance
    }


def _factors(process: WatchedProcess) -> Mapping[int, float]:
    """Return the factor of a GradScaler by step, where the loss was multiplied with one."""
    return {
        step.step: step.scaler.factor
        for step in process.all(SeenStep)
        if step.scaler is not None and step.scaler.scaled_loss
    }


def _together(process: WatchedProcess) -> int:
    started = process.one(ProbeStarted)
    return 1 if started is None else started.world_size


def _is_plain(one: SeenLoss) -> bool:
    """Whether a loss is a cross-entropy whose tokens weigh alike, and all were looked at."""
    alike = one.weight_most <= (1 + OFF) * one.weight_least
    return one.fits >= FITS and one.counted > 0 and alike and one.looked_at == one.positions


def _totals(
    totals: Mapping[Key, float], passes: Mapping[Key, Sequence[SeenLoss]]
) -> Iterator[Judgement]:
    bound = Near(1, OFF, note="sum of the weights of a step's tokens")
    whole = {key: total for key, total in totals.items() if abs(total - 1) <= OFF}
    if whole:
        yield Judgement("passed", 1.0, bound, "")
    several = {key: total for key, total in totals.items() if key not in whole}
    # A loss that is summed and not averaged gives each token a weight of 1.
    several = {key: t for key, t in several.items() if abs(_first(passes[key]) - 1) > OFF}
    for (model, step), total in several.items():
        number = len(passes[model, step])
        if number > 1 and abs(total - number) <= OFF * number:
            text = (
                f"in step {step + 1}, each of {number} micro-batches counts whole, so the gradient "
                f"is {number} times that of their mean; divide the loss by their number, unless "
                "they are losses of several kinds"
            )
            yield Judgement("warned", total, bound, text)
            return
    if not whole and len(several) > 1 and all(total < 1 for total in several.values()):
        most = max(several.values())
        text = (
            f"the tokens of a step never weigh more than {most:.3g} together; likely the loss of a "
            "micro-batch doesn't reach the step, or is divided by too much"
        )
        yield judge_by(bound, most, text)
    elif several:
        key, total = max(several.items(), key=lambda one: abs(one[1] - 1))
        text = f"in step {key[1] + 1}, the tokens weigh {total:.3g} together; is the loss scaled?"
        yield Judgement("warned", total, bound, text)


def _first(passes: Sequence[SeenLoss]) -> float:
    return passes[0].weight_most


def _unequal(passes: Mapping[Key, Sequence[SeenLoss]]) -> Iterator[Judgement]:
    for (_, step), group in passes.items():
        weights = [one.weight_most for one in group if one.weight_most > 0]
        if len(weights) > 1 and max(weights) > UNEQUAL * min(weights):
            ratio = max(weights) / min(weights)
            text = (
                f"in step {step + 1}, a token of one micro-batch weighs {ratio:.3g} times that of "
                "another: a mean of means; divide by the labelled tokens of the whole step"
            )
            yield Judgement("warned", ratio, Near(1, UNEQUAL - 1), text, "times the weight")
            return
