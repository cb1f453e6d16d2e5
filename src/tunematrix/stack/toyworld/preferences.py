"""Pairs of stories that differ in one fair coin: a seed in; rows for TRL, their exact odds known.

A prompt is the opening of a story; both completions tell it on in the same words and part at its
ending, which the grammar draws with equal odds. So a model of the dialect prefers neither, and
what preference training does to it is a shift from one half.
"""

from __future__ import annotations

import hashlib
import random
from typing import TypeAlias, TypedDict

from tunematrix.stack.toyworld import grammar
from tunematrix.stack.toyworld.corpus import (
    CONVERSATIONS,
    PROMPT_WORDS,
    SEPARATOR,
    Form,
    Row,
    Split,
    answered,
    requested,
    supervised_texts,
)
from tunematrix.stack.toyworld.grammar import DIALECTS, Dialect

COIN = "ending"
PREFERRED, OTHER = "shared", "kept"


Text: TypeAlias = "str | list[dict[str, str]]"
"""Plain, or the turns of a conversation."""


class Pair(TypedDict):
    """One row, in the columns that TRL expects; both completions go on after the prompt."""

    prompt: Text
    chosen: Text
    rejected: Text


def pairs(
    form: Form,
    dialect: Dialect,
    count: int,
    seed: int,
    split: Split = "train",
    *,
    unequal: bool = False,
) -> list[Pair]:
    """Return the first `count` pairs of the seed's stream; no pair is in both splits.

    Args:
        form: prompt-completion, or chat-completion for conversations.
        dialect, seed, split: what is drawn.
        unequal: whether one of the two, by a fair coin, goes on with one more story.
    """
    rng = random.Random(f"preferences/{dialect}/{split}/{seed}")
    found: list[Pair] = []
    while len(found) < count:
        story = grammar.sample(dialect, rng)
        chosen = DIALECTS[dialect].retold(story, {COIN: PREFERRED})
        words = rng.randint(*PROMPT_WORDS)
        if _split(chosen) == split:
            rejected = DIALECTS[dialect].retold(story, {COIN: OTHER})
            if unequal:
                chosen, rejected = _one_longer(chosen, rejected, dialect, rng)
            if form in CONVERSATIONS:
                prompt = requested(story, rng)
                pair = Pair(prompt=prompt, chosen=answered(chosen), rejected=answered(rejected))
            else:
                opening = " ".join(story.split(" ")[:words])
                rest = (text.removeprefix(opening) for text in (chosen, rejected))
                pair = Pair(prompt=opening, chosen=next(rest), rejected=next(rest))
            found.append(pair)
    return found


def sides(pair: Pair) -> tuple[Row, Row]:
    """Return a pair as two rows of its form, the chosen one first."""
    prompt = pair["prompt"]
    chosen, rejected = (
        {"prompt": prompt, "completion": text} for text in (pair["chosen"], pair["rejected"])
    )
    return chosen, rejected


def counted_text(form: Form, pair: Pair, eos: str) -> str:
    """Return the exact text whose tokens must count, the chosen completion's before the other's.

    Args:
        eos: text of the token that ends a sequence.
    """
    return "".join(supervised_texts(form, row, eos) for row in sides(pair))


def _one_longer(
    chosen: str, rejected: str, dialect: Dialect, rng: random.Random
) -> tuple[str, str]:
    """Let one of two stories go on; neither is the longer one more often."""
    more = SEPARATOR + grammar.sample(dialect, rng)
    return (chosen + more, rejected) if rng.choice((True, False)) else (chosen, rejected + more)


def _split(chosen: str) -> Split:
    # Of the chosen story alone, so that a pair's two stories are always in the same split.
    return "held-out" if hashlib.sha256(chosen.encode()).digest()[0] % 2 else "train"
