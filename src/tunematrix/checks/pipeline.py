"""What the steps of a pipeline must prove: its answers are those of the model that was given."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tunematrix.checks.bound import AtLeast, AtMost, Exactly
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by, missing
from tunematrix.evidence.events import (
    StepAdapter,
    StepBegun,
    StepCache,
    StepGrammar,
    StepProgress,
    StepScored,
    StepTogether,
)
from tunematrix.evidence.evidence import Evidence

ANSWERING = "generate"
"""The step that answers prompts."""
TIE = 1e-3
"""Of the spread of a model's logits, from the largest to the middle one: what is nearer to each
other than this, rounding may put in any order. Measured: up to 2e-6 in 28 honest runs of six small
architectures, 4e-3 and more with a cache that rounds to 8 bits (CPU, float32; torch 2.13,
transformers 5.23; November 2026)."""


@check(
    name="step_batch_equals_single",
    group="pipeline",
    reads=(StepTogether,),
    unit="answers",
    bug=(
        "prompts that are padded on their right, masks that are left out, positions that count "
        "the padding"
    ),
)
def step_batch_equals_single(evidence: Evidence, claim: Claim) -> Judgement | None:
    """A prompt is answered the same alone and beside others.

    Reads the likeliest answers, by tokens, of up to 16 prompts of all lengths. Fails when one
    parts from that of the same prompt alone, and not at a tie. Not judged where no two prompts
    were asked together.
    """
    seen = evidence.one(StepTogether)
    if seen is None:
        return _unmeasured(evidence, "the same prompts asked together and alone")
    if seen.batch < 2:
        return None
    parted = _beyond(seen.gaps)
    message = (
        f"{parted} of {len(seen.gaps)} prompts are answered otherwise beside others than "
        "alone; likely padding on the wrong side, or a mask or positions that count it; look at "
        "padding_side and pad_token of the tokenizer, and meanwhile set batch_size: 1"
    )
    return judge_by(Exactly(0), parted, message, provided=bool(seen.gaps))


@check(
    name="step_cache_exact",
    group="pipeline",
    reads=(StepCache,),
    unit="answers",
    bug=(
        "positions or masks that are off beside cached keys, caches that round; penalties and "
        "presets from a generation_config; an adapter that generation leaves out"
    ),
)
def step_cache_exact(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Each token that the library takes is the likeliest by a whole pass without a cache.

    Reads the likeliest answers of up to 16 prompts, with the logits that the library had for each
    token, and the logits of whole passes over prompt and answer. Fails when, in one answer, a
    token isn't the likeliest and is no tie, or logits differ by more than a thousandth of what lies
    between the largest and the middle one.
    """
    seen = evidence.one(StepCache)
    if seen is None:
        return _unmeasured(evidence, "the same answers with a cache and by whole passes")
    pairs = list(zip(seen.regrets, seen.logits, strict=True))
    wrong = sum(_beyond(pair) > 0 for pair in pairs)
    moved = max(seen.logits, key=_nan_last, default=math.nan)
    message = (
        f"{wrong} of {len(pairs)} answers aren't what whole passes without a cache give (logits "
        f"differ by up to {moved:.2g} of their spread); likely positions or a mask that are off "
        "beside cached keys, a penalty nobody asked for, or an adapter that generation leaves out"
    )
    return judge_by(Exactly(0), wrong, message, provided=bool(pairs))


@check(
    name="step_adapter_acts",
    group="pipeline",
    reads=(StepBegun, StepAdapter),
    unit="logits",
    bug=(
        "adapters that are loaded and never used, or whose weights are left at their start; "
        "bases that an adapter has changed for good"
    ),
)
def step_adapter_acts(evidence: Evidence, claim: Claim) -> Judgement | None:
    """An adapter changes what the model says, and without it the base is what it was.

    Reads logits on up to 16 prompts: with the adapter, with it switched off, and of the base
    before it was attached. Fails when the adapter changes none, or when one is left changed once
    it is off. Not judged without an adapter.
    """
    seen = evidence.one(StepAdapter)
    if seen is None:
        begun = any(one.adapter for one in evidence.all(StepBegun) if one.name == ANSWERING)
        what = "the same prompts with the adapter and without"
        return _unmeasured(evidence, what) if begun else None
    if seen.left != 0:
        text = (
            f"with the adapter switched off, logits differ from the base's by up to {seen.left:.3g}"
            "; likely it was merged into the base, or has replaced one of its layers"
        )
        return judge_by(Exactly(0), seen.left, text)
    message = (
        "the adapter changes no logit; likely its weights weren't loaded, or it was saved before "
        "it was trained; look at adapter_model.safetensors, and at the learning rate of its step"
    )
    bound = AtLeast(0.0, note="and not 0")
    return judge_by(bound, seen.changed, message, provided=seen.changed > 0)


@check(
    name="step_grammatical",
    group="pipeline",
    reads=(StepGrammar,),
    unit="share",
    bug="another model or prompt than the configured one, training that broke the model",
)
def step_grammatical(evidence: Evidence, claim: Claim) -> Judgement | None:
    """A model of the toy world answers by its grammar.

    Reads answers to prompts that begin a story. Fails when a smaller share of them than
    `generation.min_grammatical` goes on as one, to its end or to where the answer was cut off.
    Judged where the spec has that bound.
    """
    seen = evidence.one(StepGrammar)
    if claim.spec.generation is None or seen is None or not seen.texts:
        return None
    share = seen.following / seen.texts
    message = (
        f"{share:.0%} of the answers go on as a story; likely another model or another prompt than "
        "meant, or training that went on too long or with too high a learning rate"
    )
    return judge_by(AtLeast(claim.spec.generation.min_grammatical), share, message)


@check(
    name="step_perplexity",
    group="pipeline",
    reads=(StepScored,),
    unit="perplexity",
    bug="models that were trained to write nonsense, another tokenizer than the model's own",
)
def step_perplexity(evidence: Evidence, claim: Claim) -> Judgement | None:
    """A reference model finds every prompt with its answer likely.

    Reads the perplexities that the scorer gives. Fails when the largest is above the scorer's
    `perplexity_max`, or when all answers are blank. Judged where a step has a scorer.
    """
    seen = evidence.all(StepScored)
    if not seen:
        return None
    worst = max(seen, key=lambda one: _nan_last(_largest(one) / one.perplexity_max))
    value, texts = _largest(worst), len(worst.perplexities)
    silent = worst.blank == texts
    message = (
        "all answers are blank; likely the model ends each text at once: look at the end token, "
        "and at what it was trained on"
        if silent
        else f"by {worst.scorer}, the least likely of {texts} texts has a perplexity of "
        f"{value:.4g}; likely the model is poorly trained, or its tokenizer isn't the one it was "
        f"trained with; see {'generated.jsonl' if worst.name == ANSWERING else 'what was served'}"
    )
    bound = AtMost(worst.perplexity_max, note=f"by {worst.scorer}")
    return judge_by(bound, value, message, provided=not silent)


def _unmeasured(evidence: Evidence, what: str) -> Judgement | None:
    """Fail where prompts were answered and nothing was measured of them."""
    answered = any(one.name == ANSWERING for one in evidence.all(StepProgress))
    return missing(what) if answered else None


def _beyond(gaps: Sequence[float]) -> int:
    return sum(not gap <= TIE for gap in gaps)


def _largest(scored: StepScored) -> float:
    """Return the largest perplexity; nan where no text could be scored."""
    given = [one for one in scored.perplexities if not math.isnan(one)]
    return max(given, default=math.nan)


def _nan_last(figure: float) -> float:
    return math.inf if math.isnan(figure) else figure
