"""The saved or merged model, loaded again, is the trained one."""

from __future__ import annotations

import math
from statistics import fmean

from tunematrix.checks.arithmetic import severity, tolerance
from tunematrix.checks.bound import AtMost, Between, Exactly
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by, listed, missing, unbounded
from tunematrix.evidence.events import (
    AdapterUses,
    Merged,
    Reload,
    SavedSettings,
)
from tunematrix.evidence.evidence import Evidence

RELOAD_TOLERANCE = {"float32": 1e-5, "bfloat16": 8e-2, "float16": 5e-3}
"""Of what training changed, by dtype of the arithmetic: a trained model stays under the trainer's
autocast, and one that was loaded rounds elsewhere. The worst of 20 seeds was 3.6 % off, DoRA over
NF4 in bfloat16; in full precision none was."""

SHARE_ROOM = {"float32": 1e-3, "bfloat16": 0.05, "float16": 0.02}
"""How far from 1 the share of an adapter may be in a layer that isn't quantized, by the weight's
dtype; 2e-6 was measured in float32."""
USE_TOLERANCE = {"float32": 1e-3, "bfloat16": 8e-2, "float16": 5e-3}
"""Of what training changed, by the coarsest dtype of the arithmetic and of what was trained. Of a
change of 0.3 in logits, which three steps at a rate of 1e-4 make, float32 rounds 3e-5."""
COARSE_ROOM = {4: 0.2, 8: 0.05}
"""The same by the bits of a quantized weight. In 4 bits 0.87 to 0.98 of adapters of usual size were
measured over seven formats, in 8 bits 0.98 to 1.005 of ones that are ten times smaller."""
LOST, LOST_BESIDE_LEVELS, LOST_IN_A_LAYER = 3e-3, 1e-3, 5e-3
"""Of an adapter, by the mean of all layers and in one of them. Measured over six quantizers: 0 to
1e-3, 3e-3 in torchao's 4 bits. Where a merge leaves out one per cent, 4e-3 or more is missing (2e-3
in 8 bits with levels of their own, since few are stored); in one layer 6e-3."""
BY_CHANCE = 4
"""Standard deviations."""
DEVIATIONS = 6.0
"""Standard deviations of a share that must fit into the room: else nothing tells it from others."""


@check(
    name="reload",
    group="training",
    reads=(Reload,),
    unit="logits",
    bug=(
        "heads of tied models that load with other weights "
        "([peft#2018](https://github.com/huggingface/peft/issues/2018)), tensors that aren't "
        "saved"
    ),
)
def reloaded(evidence: Evidence, claim: Claim) -> Judgement:
    """The saved files, loaded again, give the trained model's outputs.

    Reads the logits of the trained and of the reloaded model, in the dtypes that were trained.
    Fails when they differ by more than rounding (or `reload.max_difference`), or when training
    changed nothing.
    """
    seen = evidence.one(Reload)
    if seen is None:
        return missing("a reloaded model")
    own = claim.spec.reload
    share = tolerance(RELOAD_TOLERANCE, (claim.config.precision.compute,))
    most = share * seen.changed_by_training if own is None else own.max_difference
    message = (
        f"logits differ by {seen.max_difference:.3g} after saving and loading (training itself "
        f"changed them by {seen.changed_by_training:.3g}); a tensor wasn't saved, or loads as "
        "something else"
    )
    has_trained = 0 < seen.changed_by_training < math.inf
    if not has_trained:
        message = (
            f"training changed the logits by {seen.changed_by_training:.3g}, so that saving and "
            "loading had nothing to lose"
        )
    return judge_by(AtMost(most), seen.max_difference, message, provided=has_trained)


@check(
    name="merge",
    group="training",
    reads=(Merged,),
    unit="of what training changed",
    bug=(
        "merging that does nothing "
        "([optimum-quanto](https://github.com/huggingface/optimum-quanto)), loses small "
        "changes to a 4-bit base's rounding, or leaves out a scale"
    ),
)
def merged(evidence: Evidence, claim: Claim) -> Judgement | None:
    """The adapter merged into its base gives the trained model's outputs.

    Reads the logits of the trained model, and of its adapter merged into a fresh base, saved
    and loaded. Fails when they differ by more than `merge.max` of the change that training
    made, or when training changed nothing.
    """
    seen, bound = evidence.one(Merged), claim.spec.merge
    if seen is None:
        asked = bound is not None or claim.config.meters.merge
        return missing("a merged model") if asked else None
    if bound is None:
        return unbounded("merge.max")
    changed = seen.changed_by_training
    share = seen.max_difference / changed if changed else math.nan
    message = (
        f"logits differ by {seen.max_difference:.3g} after merging, {share:.2%} of what training "
        "changed; the merge rounds, or leaves out a factor, a layer or a magnitude"
    )
    return judge_by(AtMost(bound.max), share, message, provided=changed < math.inf)


@check(
    name="merged_share",
    group="training",
    reads=(Merged,),
    unit="times",
    bug=(
        "merging that leaves a layer out or does nothing "
        "([peft#3348](https://github.com/huggingface/peft/issues/3348)); adapters that are so "
        "small beside the steps of a quantized weight that merging rounds them away"
    ),
)
def merged_share(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Each merged layer holds its adapter once, however small that is.

    Reads the weight of each merged layer, and of the base as it was stored before, and finds by
    regression how many times the adapter's own change is in the difference. Fails when that isn't 1
    within 0.1 % (5 % in bfloat16 or 8 bits, 20 % in 4 bits), or when rounding is so coarse beside
    the change that it can't be told.
    """
    seen = evidence.one(Merged)
    if not claim.config.meters.merge:
        return None
    if seen is None or not seen.shares:
        return missing("how much of the adapter is in each layer")
    room = _room(claim)
    worst = max(seen.shares, key=lambda one: severity(abs(one.share - 1)))
    vaguest = max(seen.shares, key=lambda one: severity(one.spread))
    message = (
        f"{worst.name} holds its adapter {worst.share:.3g} times after merging; likely the layer "
        "was left out, the factor is another one, or the change is smaller than half a step of "
        "the stored weight, and was rounded away: merge into the unquantized base instead"
    )
    told = DEVIATIONS * vaguest.spread <= room
    bound = Between(1 - room, 1 + room, note=f"the worst of {len(seen.shares)} layers")
    return judge_by(bound, worst.share, message, provided=told)


@check(
    name="merged_sum",
    group="training",
    reads=(Merged,),
    unit="of the adapter",
    bug=(
        "merges into few bits that add a little less, or more, than the adapter, which rounding "
        "hides; DoRA that is merged without its magnitudes"
    ),
)
def merged_sum(evidence: Evidence, claim: Claim) -> Judgement | None:
    """A merged weight is the sum of base and adapter, rounded once.

    Reads each merged weight beside tunematrix's own rounding of that sum (where a quantizer looks
    for better zero points, beside the nearest of the levels that are stored), and finds by
    regression how much of the adapter's change is missing. Fails when that is more than 0.3 % over
    all layers together (0.1 % beside stored levels), or 0.5 % in one of them, and more than the
    chance of where rounding falls.
    """
    seen = evidence.one(Merged)
    if not claim.config.meters.merge:
        return None
    found = [] if seen is None else [(s.name, s.lost, s.lost_spread) for s in seen.shares]
    rows = [(name, lost, spread) for name, lost, spread in found if lost is not None]
    if not rows:
        return missing("what is missing from merged weights")
    theory = claim.config.quantizer.theory
    rounding = None if theory is None else theory.rounding
    finds_levels = rounding is not None and rounding.ratio is not None
    allowed = [(*row, LOST_IN_A_LAYER) for row in rows]
    together = math.hypot(*(spread for *_, spread in rows)) / len(rows)
    mean = fmean(lost for _, lost, _ in rows)
    allowed.append(("the mean layer", mean, together, LOST_BESIDE_LEVELS if finds_levels else LOST))
    limits = [(name, lost, least + BY_CHANCE * spread) for name, lost, spread, least in allowed]
    name, lost, most = max(limits, key=lambda row: severity(abs(row[1]) / row[2]))
    message = (
        f"{name} lacks {lost:.2%} of its adapter beside a sum that is rounded once; likely another "
        "factor, a magnitude that is left out, or a sum that is rounded before it is stored"
    )
    return judge_by(AtMost(most, note=f"for {name}"), abs(lost), message)


@check(
    name="adapter_uses",
    group="training",
    reads=(AdapterUses,),
    unit="of what training changed",
    bug=(
        "adapters that can't be switched off, or don't come back "
        "([peft#1802](https://github.com/huggingface/peft/issues/1802)); names that a loader "
        "doesn't know; sums of adapters with other weights than were asked for; merges of all "
        "where one was named"
    ),
)
def adapter_uses(evidence: Evidence, claim: Claim) -> Judgement | None:
    """A loaded adapter can be switched off and on, exchanged, renamed and combined.

    Reads the logits of a saved adapter that was loaded and switched off, switched on, left at rest
    for another one, loaded under another name, and added up with a copy of itself (in MLX, taken
    off); over a plain base also merged in memory, switched off meanwhile and taken out again, and
    of several active ones each alone, switched to and merged. Fails when they differ from those of
    the trained model, of the base, or of one adapter by its formula, by more than rounding.
    """
    seen = evidence.one(AdapterUses)
    if not claim.config.meters.adapters:
        return None
    if seen is None or not seen.uses:
        return missing("what is done with an adapter")
    changed = seen.changed_by_training
    worst = max(seen.uses, key=lambda one: severity(one.difference))
    share = worst.difference / changed if changed else math.nan
    message = (
        f"logits of an adapter that was {worst.what} are off by {worst.difference:.3g}, "
        f"{share:.2%} of what training changed; it wasn't switched, or not all of it"
    )
    # An adapter that trained in a smaller dtype is loaded, under another name, in a larger one.
    trained = claim.config.quantizer.trained.get(claim.config.method.name, ())
    bound = AtMost(tolerance(USE_TOLERANCE, (claim.config.precision.compute, *trained)))
    return judge_by(bound, share, message, provided=changed < math.inf)


@check(
    name="saved_settings",
    group="training",
    reads=(SavedSettings,),
    unit="settings",
    bug=(
        "models that don't stop, or draw as somebody tried it once; rotary bases that are read "
        "differently, chat templates that aren't saved"
    ),
)
def saved_settings(evidence: Evidence, claim: Claim) -> Judgement:
    """The settings and the tokenizer beside saved weights are those of the training.

    Reads `config.json` and `generation_config.json` beside a saved or merged model, and those
    of its base; also the tokenizer that was saved, loaded anew, and the one of the training.
    Fails when a setting changed or is missing (except versions and caches), when one says how
    texts are drawn and the base's says nothing of it, when the dtype in it isn't that of the
    weights beside it (except packed ones, and mlx-lm's), or when the tokenizer's special tokens,
    template or tokens of a text differ.
    """
    seen = evidence.all(SavedSettings)
    if not seen:
        return missing("the settings beside what was saved")
    changed = [f"{one.folder}/{text}" for one in seen for text in one.changed]
    message = (
        f"{listed(changed)}; who loads it gets another model, or one that doesn't stop: a "
        "setting that wasn't saved, or that training changed"
    )
    return judge_by(Exactly(0), len(changed), message)


def _room(claim: Claim) -> float:
    """Return how far from 1 a share may be, by what the merged weights are stored in."""
    theory = claim.config.quantizer.theory
    rounding = None if theory is None else theory.rounding
    if rounding is None:
        return SHARE_ROOM[claim.config.precision.weights]
    return next((room for bits, room in COARSE_ROOM.items() if rounding.bits <= bits), 0.0)
