"""Generated texts: stories of the dialect, the same with a cache, and drawn as they should be."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import combinations

from tunematrix.checks.verdict import Claim, Verdict, decide, missing, unbounded
from tunematrix.evidence.events import Generation
from tunematrix.evidence.evidence import Evidence

STORY_DEVIATION = 1.4
"""Standard deviation of one story's nats: 1.42 by the grammar with no drawn word in the prompt,
1.25 with two. Measured 1.23 to 1.28, unquantized and under five quantizers, 10 to 20 seeds each and
prompts of up to twelve words (CPU; torch 2.13, transformers 5.23; November 2026)."""
DEVIATIONS = 3.5
"""Of the mean. In those runs none was further off than 2.1; by chance, 1 in 2000 would be."""


def grammatical(evidence: Evidence, claim: Claim) -> Verdict:
    """Generated texts are stories of the dialect that the base was trained on."""
    kinds = [
        [g for g in evidence.all(Generation) if (g.seed is None) is greedy]
        for greedy in (True, False)
    ]
    if not all(any(g.texts for g in kind) for kind in kinds):
        return missing("grammatical", "greedy and sampled texts")
    if claim.spec.generation is None:
        return unbounded("grammatical", "generation.min_grammatical")
    share = min(sum(g.stories for g in kind) / sum(len(g.texts) for g in kind) for kind in kinds)
    bound = claim.spec.generation.min_grammatical
    message = (
        f"{share:.0%} of the greedy or of the sampled texts are stories; likely another model or "
        "prompt than asked for, a broken cache, or a temperature that is too high"
    )
    return decide("grammatical", share >= bound, share, f">= {bound:g}", message, unit="share")


def cache(evidence: Evidence, claim: Claim) -> Verdict:
    """What the library draws with its cache is what the definition draws from whole passes."""
    seen = evidence.all(Generation)
    pairs = [
        (cached, plain)
        for cached in seen
        for plain in seen
        if cached.cache and not plain.cache and cached.seed == plain.seed and cached.texts
    ]
    if not any(cached.seed is None for cached, _ in pairs):
        return missing("cache", "the same greedy texts with a cache and by definition")
    changed = sum(_differing(*pair) for pair in pairs)
    message = (
        f"{changed} of {sum(len(cached.texts) for cached, _ in pairs)} texts differ from those "
        "drawn by the definition from whole passes, without a cache; likely positions or a mask "
        "that are off beside cached keys, or a temperature, a penalty or a limit nobody asked for"
    )
    return decide("cache", changed == 0, changed, "0", message, unit="texts")


def seeded(evidence: Evidence, claim: Claim) -> Verdict:
    """The seed decides the draws: the same one gives the same texts, another one others."""
    drawn = [g for g in evidence.all(Generation) if g.seed is not None and g.cache and g.texts]
    again = [(a, b) for a, b in combinations(drawn, 2) if a.seed == b.seed]
    apart = list(combinations({g.seed: g for g in drawn}.values(), 2))
    if not again or not apart:
        return missing("seeded", "texts drawn twice with one seed, and with another")
    changed = sum(_differing(*pair) for pair in again)
    repeated = sum(len(a.texts) - _differing(a, b) for a, b in apart)
    message = (
        f"{changed} texts changed under the same seed, {repeated} didn't under another; the seed "
        "was ignored, or nothing was drawn"
    )
    wrong = changed + repeated
    return decide("seeded", wrong == 0, wrong, "0", message, unit="texts")


def sampled_nats(evidence: Evidence, claim: Claim) -> Verdict:
    """Sampled stories are as surprising as the grammar's own: the whole distribution is drawn."""
    drawn = {g.seed: g for g in evidence.all(Generation) if g.seed is not None}
    stories = sum(g.stories for g in drawn.values())
    if not stories:
        return missing("sampled_nats", "a sampled story")
    excess = _mean_excess(drawn.values())
    bound = DEVIATIONS * STORY_DEVIATION / math.sqrt(stories)
    message = (
        f"{stories} stories have {excess:+.3g} nats over the grammar's entropy; below, the "
        "temperature was ignored or top-k left on, above, the temperature is too high"
    )
    ok = abs(excess) <= bound
    return decide("sampled_nats", ok, excess, f"0 within {bound:.3g}", message, unit="nats")


def _differing(one: Generation, other: Generation) -> int:
    shared = sum(a == b for a, b in zip(one.texts, other.texts, strict=False))
    return max(len(one.texts), len(other.texts)) - shared


def _mean_excess(drawn: Iterable[Generation]) -> float:
    drawn = list(drawn)
    total = sum(g.stories for g in drawn)
    # A seed without a story has nan for its nats, and that decides.
    return sum(g.stories * (g.nats - g.entropy) for g in drawn) / total
