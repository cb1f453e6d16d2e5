"""What an exported model must be: the base with its adapter, once, as it was asked to be stored."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from tunematrix.checks import saving
from tunematrix.checks.arithmetic import severity
from tunematrix.checks.bound import AtMost, Between
from tunematrix.checks.quantization import ROUNDING_BAND_ELSEWHERE as BAND
from tunematrix.checks.quantization import UNIT, weight_rows, worst_weight
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by, missing
from tunematrix.configuration.steps import FinalizeStep
from tunematrix.evidence.events import AdapterShare, SavedSettings, StepExported, StepKept
from tunematrix.evidence.evidence import Evidence

SAME = 1e-5
"""Of the largest logit: the same model on the same device gives the same logits. All that were
measured were the same bit by bit."""
SHARE_ROOM = 1e-3
"""How far the share of an adapter may be from 1 by the order of sums in float32."""
DEVIATIONS = 6.0
"""Standard deviations that rounding may move a share by; one layer in 500 million does."""
SEEN = 0.5
"""A share that rounding may move by more than this says nothing about its adapter."""


@check(
    name="step_kept",
    group="pipeline",
    reads=(StepKept,),
    unit="relative",
    bug=(
        "an adapter that is left out or merged twice, another scale, weights that are quantized "
        "twice, layers that a quantizer leaves out without a word"
    ),
)
def step_kept(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Each exported weight is the base's with the adapter, cast or rounded once.

    Reads each tensor of what the step finalize has exported, loaded again, and the base's files,
    with the adapter's product added by a formula of tunematrix's own. Fails when one differs by
    more than rounding to its dtype; when a layer's error isn't that of rounding it once to the
    quantizer's format (half of it to a quarter more); or when the adapter is in a layer, or in all
    together, other than once, as regression finds it, before it was quantized and after.
    """
    finalize = _finalize(claim)
    if finalize is None:
        return None
    seen = evidence.one(StepKept)
    if seen is None or not (seen.weights.layers or seen.weights.others):
        return missing("the weights that finalize has exported")
    off = _worst_share(seen)
    if off is not None:
        what, share, room = off
        message = (
            f"the adapter is in {what} {share:.4g} times, and not once; likely it was left out, "
            "merged twice or with another scale, or lost in weights that were rounded before"
        )
        bound = Between(1 - room, 1 + room, note=f"for {what}")
        return judge_by(bound, share, message, unit="times")
    rows = list(weight_rows(seen.weights, claim, UNIT[finalize.export.dtype], BAND))
    name, error, least, most = worst_weight(rows)
    message = (
        f"{name} of the export is off the base with its adapter by {error:.4g} of its norm; "
        f"rounding it once would make {least:.4g} to {most:.4g}: likely it was quantized twice, "
        "not at all, or from another model"
    )
    return judge_by(Between(least, most, note=f"for {name}"), error, message)


@check(
    name="step_exported",
    group="pipeline",
    reads=(StepExported,),
    unit="of the largest logit",
    bug="tensors that aren't saved, or are saved under names that nobody loads; torn files",
)
def step_exported(evidence: Evidence, claim: Claim) -> Judgement | None:
    """What was exported, loaded from files alone, gives the logits of the model in memory.

    Reads logits on fixed tokens, of the model that the step finalize has saved and of what
    transformers loads from its folder. Fails when they differ by more than 1e-5 of the largest.
    """
    if _finalize(claim) is None:
        return None
    seen = evidence.one(StepExported)
    if seen is None:
        return missing("the logits of what finalize has exported")
    share = seen.difference / seen.largest if seen.largest else math.nan
    message = (
        f"logits of what was exported differ by {seen.difference:.3g} (the largest is "
        f"{seen.largest:.3g}) from those of the model in memory; likely a tensor wasn't saved, or "
        "is loaded as something else"
    )
    return judge_by(AtMost(SAME), share, message)


@check(
    name="step_settings",
    group="pipeline",
    reads=(SavedSettings,),
    unit="settings",
    bug="another model's tokenizer, chat templates that aren't saved, models that don't stop",
)
def step_settings(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Settings and tokenizer beside exported weights are the base's, and the adapter's.

    Reads `config.json` and `generation_config.json` of what the step finalize has exported, and
    those of its base; also its tokenizer, and the one that was given. Fails when a setting changed
    or is missing (except dtypes, versions and quantization), or when the vocabulary, the special
    tokens, the template or the tokens of a text differ.
    """
    if _finalize(claim) is None:
        return None
    return saving.saved_settings.judge(evidence, claim)


def _finalize(claim: Claim) -> FinalizeStep | None:
    steps = claim.config.steps
    return None if steps is None or steps.dry_run else steps.finalize


def _worst_share(seen: StepKept) -> tuple[str, float, float] | None:
    """Return a layer that has its adapter other than once, its share and its room; or None."""
    errors = {name: error for name, error, _ in seen.weights.layers}
    alone = [
        *(("the merged " + one.name, one.share, _room(one, 0.0)) for one in seen.merged),
        *((one.name, one.share, _room(one, errors.get(one.name, 0.0))) for one in seen.shares),
    ]
    # What rounding hides in one layer may show in all of them.
    together = list(_together(seen.shares, max(errors.values(), default=0.0)))
    for rows in (alone, together):
        shown = [row for row in rows if row[2] <= SEEN or math.isnan(row[1])]
        worst = max(shown, key=lambda row: severity(abs(row[1] - 1) / row[2]), default=None)
        if worst is not None and not abs(worst[1] - 1) <= worst[2]:
            return worst
    return None


def _room(one: AdapterShare, error: float) -> float:
    # Levels lie nearer to 0 than what they stand for, by the square of the error. What is no
    # figure gives no room.
    parts = (SHARE_ROOM, 2 * error**2, DEVIATIONS * one.spread)
    return sum(part for part in parts if not math.isnan(part))


def _together(shares: Sequence[AdapterShare], error: float) -> Iterator[tuple[str, float, float]]:
    """Yield the mean over all layers, each by what its share says."""
    weights = [one.spread**-2 for one in shares if one.spread > 0]
    if len(weights) == len(shares) > 0:
        total = math.fsum(weights)
        mean = math.fsum(w * one.share for w, one in zip(weights, shares, strict=True)) / total
        yield "all layers", mean, _room(AdapterShare("", mean, total**-0.5), error)
