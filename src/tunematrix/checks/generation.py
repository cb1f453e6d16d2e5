"""Generated texts: stories of the dialect, the same with a cache, and drawn as they should be."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import combinations

from tunematrix.checks.arithmetic import severity, tolerance
from tunematrix.checks.bound import Around, AtLeast, AtMost, Exactly
from tunematrix.checks.quantization import dtypes_of
from tunematrix.checks.registry import check
from tunematrix.checks.verdict import Claim, Judgement, judge_by, missing, unbounded
from tunematrix.evidence.events import DrawScores, Generation
from tunematrix.evidence.evidence import Evidence

STORY_DEVIATION = 1.4
"""Standard deviation of one story's nats: 1.42 by the grammar with no drawn word in the prompt,
1.25 with two. Measured 1.23 to 1.28, unquantized and under five quantizers, 10 to 20 seeds each and
prompts of up to twelve words (CPU; torch 2.13, transformers 5.23; November 2026)."""
DEVIATIONS = 3.5
"""Of the mean. In those runs none was further off than 2.1; by chance, 1 in 2000 would be."""

SCORE_GAP = {"float32": 5e-3, "bfloat16": 5e-2, "float16": 1e-2}
"""Of the scores' spread, by the dtype of weights and arithmetic. Measured in float32: up to 2e-6
over six quantizers and without one; up to 2.1e-3 in ten runs over NF4, whose kernel for one row
rounds otherwise than the one for many; 1e-2 and more at a temperature that is 1 % off. In bfloat16,
6e-3 (CPU; torch 2.13, bitsandbytes 0.50; December 2026)."""


@check(
    name="grammatical",
    group="generation",
    reads=(Generation,),
    unit="share",
    bug=(
        "another model or prompt than the configured one, wrong positions, a temperature that "
        "is too high"
    ),
)
def grammatical(evidence: Evidence, claim: Claim) -> Judgement:
    """Generated texts are stories of the dialect that the base was trained on.

    Reads greedy and sampled texts. Fails when, of either kind, a smaller share than
    `generation.min_grammatical` are whole stories of the dialect.
    """
    kinds = [
        [g for g in evidence.all(Generation) if (g.seed is None) is greedy]
        for greedy in (True, False)
    ]
    if not all(any(g.texts for g in kind) for kind in kinds):
        return missing("greedy and sampled texts")
    if claim.spec.generation is None:
        return unbounded("generation.min_grammatical")
    share = min(sum(g.stories for g in kind) / sum(len(g.texts) for g in kind) for kind in kinds)
    bound = AtLeast(claim.spec.generation.min_grammatical)
    message = (
        f"{share:.0%} of the greedy or of the sampled texts are stories; likely another model or "
        "prompt than asked for, a broken cache, or a temperature that is too high"
    )
    return judge_by(bound, share, message)


@check(
    name="cache",
    group="generation",
    reads=(Generation,),
    unit="texts",
    bug=(
        "positions or masks that are off by one with cached keys; caches that round; a "
        "temperature, top-p or penalty from a preset"
    ),
)
def cache(evidence: Evidence, claim: Claim) -> Judgement:
    """The library generates the same texts with its cache as whole passes do.

    Reads texts that the library generates with its cache, greedy and with a seed, and texts
    drawn with the same seed from whole passes, by softmax(logits / temperature). Fails when one
    token differs.
    """
    seen = evidence.all(Generation)
    pairs = [
        (cached, plain)
        for cached in seen
        for plain in seen
        if cached.cache and not plain.cache and cached.seed == plain.seed and cached.texts
    ]
    if not any(cached.seed is None for cached, _ in pairs):
        return missing("the same greedy texts with a cache and by definition")
    changed = sum(_differing(*pair) for pair in pairs)
    message = (
        f"{changed} of {sum(len(cached.texts) for cached, _ in pairs)} texts differ from those "
        "drawn by the definition from whole passes, without a cache; likely positions or a mask "
        "that are off beside cached keys, or a temperature, a penalty or a limit nobody asked for"
    )
    return judge_by(Exactly(0), changed, message)


@check(
    name="seeded",
    group="generation",
    reads=(Generation,),
    unit="texts",
    bug="seeds that are ignored, greedy texts in place of sampled ones",
)
def seeded(evidence: Evidence, claim: Claim) -> Judgement:
    """The same seed gives the same texts, another seed gives others.

    Reads texts drawn twice with one seed, and with another. Fails when a text changed with the
    same seed, or none did with the other.
    """
    drawn = [g for g in evidence.all(Generation) if g.seed is not None and g.cache and g.texts]
    again = [(a, b) for a, b in combinations(drawn, 2) if a.seed == b.seed]
    apart = list(combinations({g.seed: g for g in drawn}.values(), 2))
    if not again or not apart:
        return missing("texts drawn twice with one seed, and with another")
    changed = sum(_differing(*pair) for pair in again)
    repeated = sum(len(a.texts) - _differing(a, b) for a, b in apart)
    message = (
        f"{changed} texts changed under the same seed, {repeated} didn't under another; the seed "
        "was ignored, or nothing was drawn"
    )
    return judge_by(Exactly(0), changed + repeated, message)


@check(
    name="sampled_nats",
    group="generation",
    reads=(Generation,),
    unit="nats",
    bug="a temperature that is ignored, top-k or top-p left on",
)
def sampled_nats(evidence: Evidence, claim: Claim) -> Judgement:
    """Sampled stories are as surprising as the grammar's own: nothing of the distribution is cut.

    Reads the mean exact nats of sampled stories, and the grammar's entropy. Fails when they
    differ by more than chance explains (3.5 standard errors).
    """
    drawn = {g.seed: g for g in evidence.all(Generation) if g.seed is not None}
    stories = sum(g.stories for g in drawn.values())
    if not stories:
        return missing("a sampled story")
    excess = _mean_excess(drawn.values())
    bound = Around(0.0, DEVIATIONS * STORY_DEVIATION / math.sqrt(stories))
    message = (
        f"{stories} stories have {excess:+.3g} nats over the grammar's entropy; below, the "
        "temperature was ignored or top-k left on, above, the temperature is too high"
    )
    return judge_by(bound, excess, message)


@check(
    name="drawn_scores",
    group="generation",
    reads=(DrawScores,),
    unit="of the scores' spread",
    bug=(
        "a temperature that is ignored, rounded or applied twice; penalties and presets from a "
        "generation_config; a cache that rounds"
    ),
)
def drawn_scores(evidence: Evidence, claim: Claim) -> Judgement | None:
    """Each token is drawn by softmax(logits / temperature), at a temperature other than 1.

    Reads the scores by which the library drew the tokens of four texts side by side, and the
    logits of whole passes over them, divided by the temperature. Fails when a score differs by more
    than a two-hundredth of what lies between the largest and the middle one, in half precision by
    more than what rounds there. Not judged where the library doesn't show its scores.
    """
    seen = evidence.one(DrawScores)
    if seen is None:
        return None if claim.hides("scores") else missing("the scores that tokens are drawn by")
    if not seen.gaps:
        return missing("a text that was drawn")
    worst = max(seen.gaps, key=severity)
    message = (
        f"a score is off by {worst:.2g} of the scores' spread at a temperature of "
        f"{seen.temperature:g}; likely another temperature, a penalty or a preset of a "
        "generation_config, or keys and values that a cache rounds"
    )
    return judge_by(AtMost(tolerance(SCORE_GAP, dtypes_of(claim))), worst, message)


def _differing(one: Generation, other: Generation) -> int:
    shared = sum(a == b for a, b in zip(one.texts, other.texts, strict=False))
    return max(len(one.texts), len(other.texts)) - shared


def _mean_excess(drawn: Iterable[Generation]) -> float:
    drawn = list(drawn)
    total = sum(g.stories for g in drawn)
    # A seed without a story has nan for its nats, and that decides.
    return sum(g.stories * (g.nats - g.entropy) for g in drawn) / total
