from __future__ import annotations

import dataclasses
import itertools
import math
import random
import statistics
from collections import Counter

import pytest

from tunematrix.stack.toyworld import grammar
from tunematrix.stack.toyworld.grammar import DIALECTS, Dialect, Grammar

BOTH: tuple[Dialect, ...] = ("A", "B")
OTHER: dict[Dialect, Dialect] = {"A": "B", "B": "A"}


def sampled(dialect: Dialect, count: int) -> list[str]:
    """The same stories in every test."""
    rng = random.Random(7)
    return [grammar.sample(dialect, rng) for _ in range(count)]


def with_few_words(dialect: Dialect) -> Grammar:
    """The dialect, cut down to two words a slot and one for the rest, so it can be enumerated."""
    words = DIALECTS[dialect].words
    few = {slot: words[slot][: 2 if slot in ("mood", "thing", "place") else 1] for slot in words}
    return dataclasses.replace(DIALECTS[dialect], words=few)


def every_story(small: Grammar) -> list[str]:
    """All stories there are, told without sampling or parsing."""
    return [
        outline.template.format(**dict(zip(small.words, drawn, strict=True)))
        for outline in small.outlines
        for drawn in itertools.product(*small.words.values())
    ]


@pytest.mark.parametrize("dialect", BOTH)
def test_probabilities_sum_to_one(dialect: Dialect) -> None:
    """Every story of a small grammar is told once, and all together have probability 1."""
    small = with_few_words(dialect)
    stories = every_story(small)
    assert len(set(stories)) == len(stories) == 4 * 2**3
    probabilities = [math.exp(small.log_probability(story)) for story in stories]
    assert math.fsum(probabilities) == pytest.approx(1)


@pytest.mark.parametrize("dialect", BOTH)
def test_entropy_is_the_expectation_over_every_story(dialect: Dialect) -> None:
    """The formula for the entropy agrees with the sum of -p log p."""
    small = with_few_words(dialect)
    logs = [small.log_probability(story) for story in every_story(small)]
    assert small.entropy() == pytest.approx(-math.fsum(math.exp(log) * log for log in logs))


@pytest.mark.parametrize("dialect", BOTH)
def test_sampling_and_parsing_agree(dialect: Dialect) -> None:
    """What sampling draws has, by parsing, the exact entropy on average: within 4 errors."""
    surprisals = [-grammar.log_probability(dialect, story) for story in sampled(dialect, 4000)]
    error = statistics.stdev(surprisals) / math.sqrt(len(surprisals))
    assert statistics.mean(surprisals) == pytest.approx(grammar.entropy(dialect), abs=4 * error)


@pytest.mark.parametrize("dialect", BOTH)
def test_frequencies_are_the_declared_ones(dialect: Dialect) -> None:
    """Each word is drawn as often as its log-probability says: within 4 standard errors."""
    stories = sampled(dialect, 4000)
    found = [grammar.choices(dialect, story) or {} for story in stories]
    words = DIALECTS[dialect].words["verb"]
    drawn = Counter(choice["verb"] for choice in found)
    for rank, word in enumerate(words):
        expected = (len(words) - rank) / sum(range(1, len(words) + 1))
        error = math.sqrt(expected * (1 - expected) / len(stories))
        assert drawn[word] / len(stories) == pytest.approx(expected, abs=4 * error)


@pytest.mark.parametrize("dialect", BOTH)
def test_no_text_fits_two_outlines(dialect: Dialect) -> None:
    """The grammar is unambiguous: a story's one derivation carries all of its probability."""
    outlines = DIALECTS[dialect].outlines
    for story in sampled(dialect, 500):
        assert sum(outline.pattern.fullmatch(story) is not None for outline in outlines) == 1


@pytest.mark.parametrize("dialect", BOTH)
@pytest.mark.parametrize("slot", ["look", "thing", "mood", "hero", "friend"])
def test_a_wrong_copy_is_no_story(dialect: Dialect, slot: str) -> None:
    """One word that isn't repeated faithfully makes the story impossible."""
    for story in sampled(dialect, 50):
        word = (grammar.choices(dialect, story) or {})[slot]
        wrong = next(other for other in DIALECTS[dialect].words[slot] if other != word)
        head, mention, tail = story.rpartition(word)
        assert word in head
        assert grammar.log_probability(dialect, head + mention + tail) > -math.inf
        assert grammar.log_probability(dialect, head + wrong + tail) == -math.inf


@pytest.mark.parametrize("dialect", BOTH)
def test_no_story_of_one_dialect_is_one_of_the_other(dialect: Dialect) -> None:
    """A dialect gives the other's stories, and mere pieces of its own, no probability at all."""
    for story in sampled(dialect, 50):
        assert grammar.log_probability(OTHER[dialect], story) == -math.inf
        assert grammar.choices(OTHER[dialect], story) is None
        for text in (story[:-1], story + " ", story + " " + story, story.lower(), ""):
            assert grammar.log_probability(dialect, text) == -math.inf


@pytest.mark.parametrize("dialect", BOTH)
def test_stories_have_four_or_five_sentences(dialect: Dialect) -> None:
    """Both lengths occur, and "aside" says which."""
    lengths = {
        ((grammar.choices(dialect, story) or {})["aside"], story.count("."))
        for story in sampled(dialect, 200)
    }
    assert lengths == {("untold", 4), ("told", 5)}


@pytest.mark.parametrize("dialect", BOTH)
def test_the_ending_is_a_fair_coin(dialect: Dialect) -> None:
    """Either ending has the same probability, with the same words before it and the same length."""
    endings = DIALECTS[dialect].sentences["ending"]
    assert set(endings) == {"shared", "kept"}
    for story in sampled(dialect, 50):
        choices = grammar.choices(dialect, story)
        assert choices is not None
        ending = endings[choices["ending"]].format(**choices)
        other = next(endings[branch] for branch in endings if branch != choices["ending"])
        twin = story.removesuffix(ending) + other.format(**choices)
        assert twin != story
        assert len(twin.split()) == len(story.split())
        assert grammar.log_probability(dialect, twin) == grammar.log_probability(dialect, story)
        assert (grammar.choices(dialect, twin) or {})["ending"] != choices["ending"]


@pytest.mark.parametrize("dialect", BOTH)
def test_an_opening_has_the_probability_of_all_stories_that_begin_so(dialect: Dialect) -> None:
    """Of two to twelve words, against the sum over every story of a small grammar."""
    small = with_few_words(dialect)
    stories = every_story(small)
    first = stories[-1].split(" ")
    for count in range(2, 13):
        opening = " ".join(first[:count])
        beginning_so = [story for story in stories if story.split(" ")[:count] == first[:count]]
        total = math.fsum(math.exp(small.log_probability(story)) for story in beginning_so)
        assert math.exp(small.opening_log_probability(opening)) == pytest.approx(total)
    assert small.opening_log_probability("Once upon a midnight") == -math.inf


@pytest.mark.parametrize("dialect", BOTH)
def test_entropy_after_an_opening(dialect: Dialect) -> None:
    """The mean surprise of what follows, over every story of a small grammar that begins so."""
    small = with_few_words(dialect)
    stories = every_story(small)
    first = stories[-1].split(" ")
    for count in range(2, 13):
        opening = " ".join(first[:count])
        given = small.opening_log_probability(opening)
        beginning_so = [story for story in stories if story.split(" ")[:count] == first[:count]]
        after = [small.log_probability(story) - given for story in beginning_so]
        assert small.entropy_after(opening) == pytest.approx(-sum(math.exp(n) * n for n in after))
    with pytest.raises(ValueError, match="no story begins with 'Once upon a midnight'"):
        small.entropy_after("Once upon a midnight")
