"""The saved or merged model, loaded again, is the trained one."""

from __future__ import annotations

import math

from tunematrix.checks.arithmetic import tolerance
from tunematrix.checks.bound import AtMost, Exactly
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by, listed, missing, unbounded
from tunematrix.evidence.events import (
    Merged,
    Reload,
    SavedSettings,
)
from tunematrix.evidence.evidence import Evidence

RELOAD_TOLERANCE = {"float32": 1e-5, "bfloat16": 8e-2, "float16": 5e-3}
"""Of what training changed, by dtype of the arithmetic: a trained model stays under the trainer's
autocast, and one that was loaded rounds elsewhere. The worst of 20 seeds was 3.6 % off, DoRA over
NF4 in bfloat16; in full precision none was."""


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
    name="saved_settings",
    group="training",
    reads=(SavedSettings,),
    unit="settings",
    bug=(
        "models that don't stop, rotary bases that are read differently, chat templates that "
        "aren't saved"
    ),
)
def saved_settings(evidence: Evidence, claim: Claim) -> Judgement:
    """The settings and the tokenizer beside saved weights are those of the training.

    Reads `config.json` and `generation_config.json` beside a saved or merged model, and those
    of its base; also the tokenizer that was saved, loaded anew, and the one of the training.
    Fails when a setting changed or is missing (except dtypes, versions and caches), or when the
    tokenizer's special tokens, template or tokens of a text differ.
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
