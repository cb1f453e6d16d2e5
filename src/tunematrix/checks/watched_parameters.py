"""Which parameters train in a watched process: those that should, and no others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tunematrix.checks.bound import AtLeast, AtMost, Exactly
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by, listed
from tunematrix.checks.watched import trainers_in
from tunematrix.errors import counted
from tunematrix.evidence.evidence import Evidence
from tunematrix.evidence.watched import WatchedProcess
from tunematrix.probe.tunematrix_probe.records import (
    SeenCoverage,
    SeenModel,
    SeenMoved,
    SeenOptimizer,
    SeenStep,
    SeenUpdate,
)

AT_MOST_UNDONE = 2
"""Tensors that may be put back on purpose: an embedding of which some rows alone are to train."""
_NONE = Exactly(0)


@check(
    name="watched_moved",
    group="watch",
    unit="tensors",
    bug=(
        "updates that are written into copies, weights that are put back after each step, matrices "
        "B of LoRA that stay zero"
    ),
)
def watched_moved(evidence: Evidence, claim: Claim) -> Judgement | None:
    """What had a gradient and a learning rate above 0 has changed.

    Reads digests of each trained tensor at the first step and the last. Fails when all gradients
    are 0; when a tensor that had another gradient, and is in an optimizer, is as it was; when
    matrices B of LoRA are still zero; or when three tensors or more are put back between the first
    two steps. Warns where the tensor's dtype explains it: an update that is smaller than bfloat16
    can add. Not judged where all rates were 0, which `watched_learning_rate` tells.
    """
    trainers = trainers_in(evidence, "watched_moved")
    found = [one for process in trainers for one in _ends(process)]
    # Without any B, no A has a gradient either: say what is behind it.
    if frozen := next(filter(None, map(_adapters, filter(_is_frozen, found))), None):
        return frozen
    if steps := _steps_without_gradient(trainers):
        text = (
            f"all gradients are 0 in each of {steps} audited steps, so nothing is learned; likely "
            "the loss doesn't depend on the weights, such as a cross-entropy over one class"
        )
        return judge_by(AtLeast(1), 0, text, unit="gradients other than 0")
    undone = max((one.undone or 0 for p in trainers for one in p.all(SeenUpdate)), default=0)
    if undone > AT_MOST_UNDONE:
        text = (
            f"before the second step, {counted(undone, 'tensor')} are put back to what they were "
            "before the first; likely weights are loaded or copied after each step"
        )
        return judge_by(_NONE, undone, text)
    if not found:
        return None
    return next(filter(None, map(_adapters, found)), None) or _unmoved(found)


def _is_frozen(one: SeenMoved) -> bool:
    return one.adapters_frozen_zero > 0


def _adapters(one: SeenMoved) -> Judgement | None:
    """Judge the matrices B of LoRA, of which one that is zero does nothing; None if they aren't."""
    if one.adapters and one.adapters_zero == one.adapters:
        text = (
            f"matrices B of LoRA are still zero: {listed(one.adapters_zero_names)}; so the adapter "
            "does nothing. Likely the optimizer has other tensors than the model, or its steps are "
            "undone"
        )
        return judge_by(_NONE, one.adapters_zero, text)
    if one.adapters_frozen_zero and not one.adapters:
        text = (
            "all matrices B of LoRA are zeros and frozen, so the adapter does nothing; let them "
            "require a gradient"
        )
        return judge_by(_NONE, one.adapters_frozen_zero, text)
    return None


def _unmoved(found: Sequence[SeenMoved]) -> Judgement:
    still = [name for one in found for name in one.unmoved_names]
    unmoved = sum(one.trained - one.moved for one in found)
    if unmoved and unmoved <= sum(one.rounded_away for one in found):
        text = (
            f"{listed(still)}: each update is smaller than what the dtype of the weights can add, "
            "so they stay as they are; train in float32, or at a larger learning rate"
        )
        return Judgement("warned", unmoved, _NONE, text)
    text = (
        f"had a gradient and a learning rate, and are as they were: {listed(still)}; likely the "
        "step writes into copies of them, or they are loaded again afterwards"
    )
    return judge_by(_NONE, unmoved, text)


@check(
    name="watched_trainable",
    group="watch",
    unit="tensors",
    bug=(
        "an optimizer that was built before the model was moved, wrapped, or got its adapter; a "
        "layer that is missing in its groups; a `detach()` in the middle of the network"
    ),
)
def watched_trainable(evidence: Evidence, claim: Claim) -> Judgement | None:
    """What requires a gradient is in an optimizer, and gets one.

    Reads the tensors of the models that were called with gradients to come, and those in the groups
    of all optimizers. Fails when an optimizer never finds a gradient; when a tensor requires one
    and is in no group, while others of its model are; when a group holds tensors of a model that
    was made anew since; or when tensors never get a gradient, and their module is called before
    others that do. Warns of other tensors without a gradient, of a whole network that nothing
    trains though it requires gradients, and of embeddings that should be tied and aren't.
    """
    trainers = trainers_in(evidence, "watched_trainable")
    if idle := [name for process in trainers for name in _without_gradients(process)]:
        text = (
            f"no tensor of {listed(idle)} had a gradient in any step, so its steps change nothing; "
            "likely the model was made anew, copied or loaded after the optimizer"
        )
        return judge_by(AtLeast(1), 0, text, unit="tensors with a gradient")
    # Models that are gone when the process ends leave nothing to look at then.
    found = [
        seen[-1]
        for process in trainers
        if (seen := [one for one in process.all(SeenCoverage) if one.trainable])
    ]
    if not found:
        return None
    worst = max(found, key=lambda one: (_astray(one), one.idle + one.missing))
    if count := _astray(worst):
        return judge_by(_NONE, count, " ".join(_faults(worst)))
    untied = [model.name for p in trainers for model in p.all(SeenModel) if model.untied]
    if untied:
        text = (
            f"the configuration of {listed(untied)} ties its output to its input embeddings, and "
            "they are two tensors, of which one is saved; tie_weights() makes them one"
        )
        return Judgement("warned", len(untied), _NONE, text, "models")
    if worst.idle or worst.foreign or worst.missing_alone or worst.frozen_in_groups:
        count = worst.idle + worst.foreign + worst.missing_alone + worst.frozen_in_groups
        return Judgement("warned", count, _NONE, " ".join(_oddities(worst)))
    return Judgement("passed", 0, _NONE, "")


def _without_gradients(process: WatchedProcess) -> Iterator[str]:
    """Yield the names of optimizers that never found a gradient."""
    most: dict[int, int] = {}
    for step in process.all(SeenStep):
        most[step.optimizer] = max(most.get(step.optimizer, 0), step.with_gradient)
    names = {one.optimizer: one.name.rpartition(".")[2] for one in process.all(SeenOptimizer)}
    yield from (names.get(number, "an optimizer") for number, count in most.items() if not count)


def _steps_without_gradient(trainers: Sequence[WatchedProcess]) -> int:
    """Return how many steps were looked at, where all gradients were 0 in all of them; else 0."""
    # Under a GradScaler they may have vanished, which is another fault.
    steps = [
        step
        for process in trainers
        for step in process.all(SeenStep)
        if step.with_gradient and step.zero_gradient is not None and step.scaler is None
    ]
    are_zero = all(step.zero_gradient == step.with_gradient for step in steps)
    return len(steps) if are_zero and len(steps) > 1 else 0


def _astray(one: SeenCoverage) -> int:
    return (one.missing - one.missing_alone) + one.replaced + one.idle_before


def _faults(one: SeenCoverage) -> Iterator[str]:
    if one.replaced:
        yield (
            f"the optimizer's groups hold {counted(one.replaced, 'tensor')} of no model that was "
            "called, and the model has others of the same shapes: the optimizer was built before "
            "the model was made anew, moved or wrapped; build it afterwards."
        )
    if missing := one.missing - one.missing_alone:
        yield (
            f"no group of an optimizer has {counted(missing, 'tensor')} of the {one.trainable} "
            f"that require a gradient, so nothing trains them: {listed(one.missing_names)}; add "
            "them, or freeze them by requires_grad_(False)."
        )
    if one.idle_before:
        yield (
            f"{counted(one.idle_before, 'tensor')} never got a gradient, of modules that are "
            f"called before others that do: {listed(one.idle_names)}; likely a detach() or "
            "no_grad() between the two."
        )


def _oddities(one: SeenCoverage) -> Iterator[str]:
    if one.idle:
        yield f"{counted(one.idle, 'tensor')} never got a gradient: {listed(one.idle_names)}."
    if one.foreign:
        yield f"The groups hold {counted(one.foreign, 'tensor')} of no model that was called."
    if one.missing_alone:
        yield (
            f"No optimizer trains a network of which {counted(one.missing_alone, 'tensor')} could "
            f"have a gradient: {listed(one.missing_names)}; freezing it would save memory."
        )
    if one.frozen_in_groups:
        yield f"The groups hold {counted(one.frozen_in_groups, 'tensor')} that can't be trained."


@check(
    name="watched_frozen",
    group="watch",
    unit="tensors",
    bug="a base model that is trained beside its adapter, weights that are overwritten",
)
def watched_frozen(evidence: Evidence, claim: Claim) -> Judgement | None:
    """What requires no gradient, and is in no optimizer, is as it was.

    Reads digests of each such tensor at the first step and the last. Fails when one has changed.
    """
    found = [
        one
        for process in trainers_in(evidence, "watched_frozen")
        for one in _ends(process)
        if one.frozen
    ]
    if not found:
        return None
    names = [name for one in found for name in one.frozen_changed_names]
    changed = sum(one.frozen_changed for one in found)
    text = (
        f"frozen, and changed all the same: {listed(names)}; likely something writes into them by "
        "hand, or an adapter was merged"
    )
    return judge_by(AtMost(0), changed, text)


def _ends(process: WatchedProcess) -> Iterator[SeenMoved]:
    """Yield the last look at each model, where something could move: at a rate above 0."""
    steps = process.all(SeenStep)
    if not any(rate > 0 for step in steps for rate in step.learning_rates):
        return
    # A model that is gone when the process ends leaves nothing to look at then.
    seen = (one for one in process.all(SeenMoved) if one.trained or one.frozen)
    yield from {one.model: one for one in seen}.values()
