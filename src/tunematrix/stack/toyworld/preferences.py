"""Pairs of stories that differ in one fair coin: a seed in; rows for TRL, their exact odds known.

A prompt is the opening of a story; both completions tell it on in the same words and part at its
ending, which the grammar draws with equal odds. So a model of the dialect prefers neither, and
what preference training does to it is a shift from one half.
"""

from __future__ import annotations

import hashlib
import random
from typing import TypedDict

from tunematrix.stack.toyworld import grammar
from tunematrix.stack.toyworld.corpus import PROMPT_WORDS, Split
from tunematrix.stack.toyworld.grammar import DIALECTS, Dialect

COIN = "ending"
PREFERRED, OTHER = "shared", "kept"


class Pair(TypedDict):
    """One row, in the columns that TRL expects; both completions go on after the prompt."""

    prompt: str
    chosen: str
    rejected: str


def pairs(dialect: Dialect, count: int, seed: int, split: Split = "train") -> list[Pair]:
    """Return the first `count` pairs of the seed's stream; no pair is in both splits."""
    rng = random.Random(f"preferences/{dialect}/{split}/{seed}")
    found: list[Pair] = []
    while len(found) < count:
        story = grammar.sample(dialect, rng)
        chosen = DIALECTS[dialect].retold(story, {COIN: PREFERRED})
        prompt = " ".join(story.split(" ")[: rng.randint(*PROMPT_WORDS)])
        if _split(chosen) == split:
            rejected = DIALECTS[dialect].retold(story, {COIN: OTHER})
            found.append(
                Pair(
                    prompt=prompt,
                    chosen=chosen.removeprefix(prompt),
                    rejected=rejected.removeprefix(prompt),
                )
            )
    return found


def counted_text(pair: Pair, eos: str) -> str:
    """Return the exact text whose tokens must count, the chosen completion's before the other's.

    Args:
        eos: text of the token that ends a sequence.
    """
    return f"{pair['chosen']}{eos}{pair['rejected']}{eos}"


def _split(chosen: str) -> Split:
    # Of the chosen story alone, so that a pair's two stories are always in the same split.
    return "held-out" if hashlib.sha256(chosen.encode()).digest()[0] % 2 else "train"
