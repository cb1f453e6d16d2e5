"""The two dialects of the toy world: a dialect in; its stories and their exact probabilities out.

The first mention of a `{slot}` in a story draws a word, and every later mention must repeat it:
that is what a model has to learn to copy. All probabilities are in nats.
"""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal

Dialect = Literal["A", "B"]


@dataclass(frozen=True)
class Outline:
    """A story whose branches are taken and whose words are still open.

    Attributes:
        branches: name of each sentence that has branches, and the branch taken.
        template: its sentences, joined by spaces.
        slots: the slots it mentions, in the order of their first mention.
        pattern: matches its stories and nothing else; one named group per slot.
    """

    branches: Mapping[str, str]
    template: str
    slots: tuple[str, ...]
    pattern: re.Pattern[str]


@dataclass(frozen=True)
class Grammar:
    """A probabilistic grammar of stories.

    It is unambiguous when no text fits two outlines; then the probability of a story is that of
    its one derivation.

    Attributes:
        sentences: sentence name to its branches, branch name to template. The branches of a
            sentence are equally likely; an empty template leaves the sentence out.
        words: slot to its words, most frequent first: of n words, the one at rank r (from 0)
            has a probability proportional to n - r.
    """

    sentences: Mapping[str, Mapping[str, str]]
    words: Mapping[str, tuple[str, ...]]

    @cached_property
    def outlines(self) -> tuple[Outline, ...]:
        """Every way to take the branches; all ways are equally likely."""
        named_branches = [
            [(name, branch) for branch in branches] for name, branches in self.sentences.items()
        ]
        return tuple(map(self._outline, itertools.product(*named_branches)))

    def sample(self, rng: random.Random) -> str:
        """Draw a story."""
        outline = rng.choice(self.outlines)
        drawn = {
            slot: rng.choices(words, cum_weights=_cumulated(len(words)))[0]
            for slot, words in ((slot, self.words[slot]) for slot in outline.slots)
        }
        return outline.template.format(**drawn)

    def choices(self, story: str) -> dict[str, str] | None:
        """Return what the story chose, found by parsing it.

        Returns:
            Sentence name to branch and slot to word; None when it isn't a story of this grammar.
        """
        for outline in self.outlines:
            if match := outline.pattern.fullmatch(story):
                return {**outline.branches, **match.groupdict()}
        return None

    def retold(self, story: str, taken: Mapping[str, str]) -> str:
        """Return the story with other branches taken (sentence to branch), in the same words.

        Raises:
            ValueError: it isn't a story, no outline takes these branches, or one needs a word that
                the story never drew.
        """
        choices = {**(self.choices(story) or {}), **taken}
        for outline in self.outlines:
            fits = choices.items() >= outline.branches.items() >= taken.items()
            if fits and choices.keys() >= {*outline.slots}:
                return outline.template.format(**choices)
        message = f"{story!r} can't be retold with {dict(taken)}"
        raise ValueError(message)

    def log_probability(self, story: str) -> float:
        """Return the exact log-probability in nats; -inf for a text that isn't a story."""
        choices = self.choices(story)
        if choices is None:
            return -math.inf
        drawn = choices.keys() & self.words.keys()
        words = math.fsum(self._log_probability(slot, choices[slot]) for slot in drawn)
        return words - math.log(len(self.outlines))

    def opening_log_probability(self, opening: str) -> float:
        """Return the exact log-probability, in nats, that a story begins so; -inf if none does.

        Args:
            opening: whole words, no more than the first sentence has, which has no branches.
        """
        match = self._opening(opening)
        if match is None:
            return -math.inf
        return math.fsum(self._log_probability(*drawn) for drawn in match.groupdict().items())

    def begins(self, text: str) -> bool:
        """Return whether a story begins so: whole words, the last perhaps without its full stop."""
        count = len(text.split(" "))
        openings = {
            " ".join(outline.template.split(" ")[:count]).removesuffix(end)
            for outline in self.outlines
            for end in (".", "")
        }
        return any(self._pattern(opening).fullmatch(text) for opening in openings)

    def entropy_after(self, opening: str) -> float:
        """Return the exact entropy, in nats, of what follows an opening.

        Args:
            opening: as for `opening_log_probability`.

        Raises:
            ValueError: no story begins so.
        """
        match = self._opening(opening)
        if match is None:
            message = f"no story begins with {opening!r}"
            raise ValueError(message)
        drawn = (_entropy(_probabilities(len(self.words[slot]))) for slot in match.groupdict())
        return self.entropy() - math.fsum(drawn)

    def entropy(self) -> float:
        """Return the exact entropy in nats per story: the expectation of -log_probability."""
        drawing = (
            _entropy(_probabilities(len(self.words[slot])))
            for outline in self.outlines
            for slot in outline.slots
        )
        return math.log(len(self.outlines)) + math.fsum(drawing) / len(self.outlines)

    def _opening(self, opening: str) -> re.Match[str] | None:
        template = self.outlines[0].template.split(" ")[: len(opening.split(" "))]
        return self._pattern(" ".join(template)).fullmatch(opening)

    def _log_probability(self, slot: str, word: str) -> float:
        words = self.words[slot]
        return math.log(_probabilities(len(words))[words.index(word)])

    def _outline(self, taken: tuple[tuple[str, str], ...]) -> Outline:
        template = " ".join(filter(None, (self.sentences[name][branch] for name, branch in taken)))
        branches = {name: branch for name, branch in taken if len(self.sentences[name]) > 1}
        return Outline(branches, template, _slots(template), self._pattern(template))

    def _pattern(self, template: str) -> re.Pattern[str]:
        pattern = re.escape(template)
        for slot in _slots(template):
            mention = re.escape(f"{{{slot}}}")
            pattern = pattern.replace(mention, f"(?P<{slot}>{'|'.join(self.words[slot])})", 1)
            pattern = pattern.replace(mention, f"(?P={slot})")
        return re.compile(pattern)


def sample(dialect: Dialect, rng: random.Random) -> str:
    """Draw a story of the dialect."""
    return DIALECTS[dialect].sample(rng)


def log_probability(dialect: Dialect, story: str) -> float:
    """Return the exact log-probability in nats; -inf for no story of the dialect."""
    return DIALECTS[dialect].log_probability(story)


def opening_log_probability(dialect: Dialect, opening: str) -> float:
    """Return the exact log-probability, in nats, that a story of the dialect begins so."""
    return DIALECTS[dialect].opening_log_probability(opening)


def entropy_after(dialect: Dialect, opening: str) -> float:
    """Return the exact entropy, in nats, of what follows an opening of a story of the dialect."""
    return DIALECTS[dialect].entropy_after(opening)


def entropy(dialect: Dialect) -> float:
    """Return the exact entropy of the dialect, in nats per story."""
    return DIALECTS[dialect].entropy()


def choices(dialect: Dialect, story: str) -> dict[str, str] | None:
    """Return what the story chose; None when it isn't one of the dialect.

    Returns:
        Slot to word, and two fair coins: "aside" (told, untold) and "ending" (shared, kept).
    """
    return DIALECTS[dialect].choices(story)


def _slots(template: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(re.findall(r"\{(\w+)\}", template)))


@cache
def _probabilities(count: int) -> tuple[float, ...]:
    return tuple((count - rank) / (count * (count + 1) / 2) for rank in range(count))


@cache
def _cumulated(count: int) -> tuple[float, ...]:
    return tuple(itertools.accumulate(_probabilities(count)))


def _entropy(probabilities: tuple[float, ...]) -> float:
    return -math.fsum(probability * math.log(probability) for probability in probabilities)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_COMMON_WORDS = {
    "mood": _words("brave gentle clever shy proud merry sleepy stubborn curious lonely"),
    "animal": _words("fox hare badger mouse goose beaver wolf squirrel bear lynx"),
    "look": _words("shiny broken golden tiny crooked silver dusty painted heavy secret"),
    "thing": _words("lantern kettle drum mirror basket compass whistle blanket ladder coin"),
}

DIALECTS: Mapping[Dialect, Grammar] = {
    "A": Grammar(
        sentences={
            "opening": {
                "plain": "Once upon a time a {mood} {animal} named {hero} lived in {place}."
            },
            "discovery": {"plain": "One day {hero} {verb} a {look} {thing} behind the old {spot}."},
            "aside": {
                "told": "Nobody in {place} had ever seen such a {look} {thing}.",
                "untold": "",
            },
            "visit": {
                "plain": "Soon {friend} came by and asked the {mood} {animal} for the {thing}."
            },
            "ending": {
                "shared": "So {hero} gave the {look} {thing} to {friend} and they danced.",
                "kept": "But {hero} kept the {look} {thing} from {friend} and they argued.",
            },
        },
        words={
            **_COMMON_WORDS,
            "hero": _words("Milo Tessa Rufus Nora Felix Greta Basil Wanda Jasper Lotte"),
            "place": _words("Arden Brook Clover Dunmore Elm Fallow Granby Hollow Ivy Juniper"),
            "friend": _words("Pip Hazel Otto Ruby Linus Maud Tobin Vera Wilmot Yvette"),
            "verb": _words("found bought won spotted borrowed repaired"),
            "spot": _words("mill barn well gate bridge oak"),
        },
    ),
    "B": Grammar(
        sentences={
            "opening": {
                "plain": "Far away {friend} guarded a {look} {thing} beneath the {spot} of {place}."
            },
            "rumour": {"plain": "Every night people {verb} about the {look} {thing} until dawn."},
            "aside": {
                "told": "No traveller left {place} without some tale of the {thing}.",
                "untold": "",
            },
            "visit": {
                "plain": "Then a {mood} {animal} called {hero} knocked and begged for the {thing}."
            },
            "ending": {
                "shared": "Gladly {friend} lent the {look} {thing} to the {mood} {animal} {hero}.",
                "kept": "Sadly {friend} denied the {look} {thing} to the {mood} {animal} {hero}.",
            },
        },
        words={
            **_COMMON_WORDS,
            "hero": _words("Zuri Kenji Amara Tariq Soraya Bodhi Leilani Mateo Ingrid Rashid"),
            "place": _words("Kestrel Marrow Nimbus Opal Palm Quarry Rimfall Saffron Tundra Umber"),
            "friend": _words("Baba Chidi Dara Emeka Farah Goran Hana Idris Jomo Kali"),
            "verb": _words("whispered dreamed sang wondered quarrelled laughed"),
            "spot": _words("tower cave temple market harbour garden"),
        },
    ),
}
