"""Pairs of stories that differ in one fair coin, and in nothing else."""

from __future__ import annotations

from typing import Literal

import pytest

from tunematrix.stack.toyworld import grammar, preferences
from tunematrix.stack.toyworld.corpus import SEPARATOR, Form, Split
from tunematrix.stack.toyworld.grammar import DIALECTS, Dialect

BOTH: tuple[Dialect, ...] = ("A", "B")
FORMS: tuple[Form, ...] = ("prompt-completion", "chat-completion")
SIDES: tuple[Literal["chosen"], Literal["rejected"]] = ("chosen", "rejected")
SPLITS: tuple[Split, ...] = ("train", "held-out")


@pytest.mark.parametrize("dialect", BOTH)
def test_stories_differ_in_the_ending_alone(dialect: Dialect) -> None:
    """Both are whole stories, told in the same words, and exactly as likely."""
    for pair in preferences.pairs("prompt-completion", dialect, 50, seed=0):
        texts = (pair["chosen"], pair["rejected"])
        chosen, rejected = (f"{pair['prompt']}{text}" for text in texts)
        told, other = grammar.choices(dialect, chosen), grammar.choices(dialect, rejected)
        assert told is not None
        assert other == {**told, "ending": "kept"}
        assert told["ending"] == "shared"
        assert grammar.log_probability(dialect, chosen) == grammar.log_probability(
            dialect, rejected
        )


def test_rest_is_drawn_as_the_grammar_draws_it() -> None:
    """The other coin stays fair, and prompts are of all lengths."""
    pairs = preferences.pairs("prompt-completion", "A", 400, seed=1)
    told = [grammar.choices("A", f"{pair['prompt']}{pair['chosen']}") for pair in pairs]
    assert 0.42 < sum(choices["aside"] == "told" for choices in told if choices) / 400 < 0.58
    assert {len(str(pair["prompt"]).split(" ")) for pair in pairs} == set(range(2, 13))


def test_splits_share_no_pair() -> None:
    """Whatever their seeds; and the same arguments give the same pairs."""
    stories = {
        split: {
            f"{pair['prompt']}{pair['chosen']}"
            for seed in range(5)
            for pair in preferences.pairs("prompt-completion", "A", 200, seed, split)
        }
        for split in SPLITS
    }
    assert not stories["train"] & stories["held-out"]
    for form in FORMS:
        few, more = (preferences.pairs(form, "A", count, seed=3) for count in (9, 20))
        assert few == more[:9]


def test_pairs_of_unequal_lengths() -> None:
    """One side of each goes on with a whole story, about as often the one as the other."""
    pairs = preferences.pairs("prompt-completion", "A", 200, seed=2, unequal=True)
    longer = 0
    for pair in pairs:
        sides = [f"{pair['prompt']}{pair[side]}".split(SEPARATOR) for side in SIDES]
        told = [grammar.choices("A", story) for side in sides for story in side]
        assert None not in told
        short, long = sorted(map(len, sides))
        assert (short, long) == (1, 2)
        longer += len(sides[0]) > len(sides[1])
    assert 80 <= longer <= 120


def test_counted_text_is_both_completions() -> None:
    """In the order chosen, rejected, each with its end."""
    pair = preferences.Pair(prompt="Once", chosen=" upon.", rejected=" more.")
    assert preferences.counted_text("prompt-completion", pair, "<end>") == " upon.<end> more.<end>"


def test_retold() -> None:
    """Another branch, the same words; what can't be told is refused."""
    story = preferences.pairs("prompt-completion", "A", 1, seed=0)[0]
    text = f"{story['prompt']}{story['chosen']}"
    again = DIALECTS["A"].retold(text, {"ending": "kept"})
    assert again == f"{story['prompt']}{story['rejected']}"
    assert DIALECTS["A"].retold(again, {"ending": "shared"}) == text
    for taken in ({"ending": "lost"}, {"finish": "kept"}):
        with pytest.raises(ValueError, match="can't be retold with"):
            DIALECTS["A"].retold(text, taken)
    with pytest.raises(ValueError, match="can't be retold"):
        DIALECTS["A"].retold("No story.", {"ending": "kept"})
