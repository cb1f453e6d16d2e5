from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from tunematrix.checks.generation import DEVIATIONS, STORY_DEVIATION
from tunematrix.evidence.events import Generation

if TYPE_CHECKING:
    from tests.unit.conftest import Run

GREEDY, PLAIN, DRAWN, UNCACHED, AGAIN, OTHER = range(6)
CHECKS = {"grammatical", "cache", "seeded", "sampled_nats"}


def test_share_at_its_bound(run: Run) -> None:
    """The bound itself passes; one story fewer doesn't."""
    fewer = run.edited(Generation, OTHER, stories=3)  # 12 of 16 sampled texts
    assert not fewer.asked(generation={"min_grammatical": 0.75}).failed()
    assert fewer.asked(generation={"min_grammatical": 0.76}).failed() == {"grammatical"}


@pytest.mark.parametrize("position", [GREEDY, OTHER])
def test_one_kind_of_text_does_not_make_up_for_the_other(run: Run, position: int) -> None:
    """Greedy texts are nearly always stories, and must not hide that sampled ones aren't."""
    kind = [g for g in run.evidence.all(Generation) if (g.seed is None) is (position == GREEDY)]
    broken = run
    for event in kind:
        index = broken.evidence.all(Generation).index(event)
        broken = broken.edited(Generation, index, stories=1)
    assert broken.failed() == {"grammatical"}


def test_no_bound_for_the_share(run: Run) -> None:
    """What was measured and that nothing decides fails."""
    verdict = run.asked(generation=None).verdicts()["grammatical"]
    assert verdict.outcome == "failed"
    assert "add generation.min_grammatical" in verdict.message


@pytest.mark.parametrize("position", [GREEDY, PLAIN, UNCACHED])
def test_cache_compares_greedy_and_sampled_texts(run: Run, position: int) -> None:
    """One other token anywhere is enough, and the seed isn't blamed for it."""
    texts = run.evidence.all(Generation)[position].texts
    assert run.edited(Generation, position, texts=(*texts[:3], "x")).failed() == {"cache"}
    assert run.edited(Generation, position, texts=texts[:3]).failed() == {"cache"}


def test_cache_that_was_never_switched_off(run: Run) -> None:
    """Two runs with a cache are equal, and prove nothing."""
    cached = run
    for position in (PLAIN, UNCACHED):
        cached = cached.edited(Generation, position, cache=True)
    assert cached.failed() == {"cache"}
    assert cached.verdicts()["cache"].measured is None


def test_another_seed_changes_every_text(run: Run) -> None:
    """By chance alone two stories are the same once in a hundred million times."""
    first = run.evidence.all(Generation)[DRAWN].texts
    same = run.edited(Generation, OTHER, texts=("p", "q", "r", first[3]))
    assert same.failed() == {"seeded"}
    assert "1 didn't under another" in same.verdicts()["seeded"].message


@pytest.mark.parametrize("position", [AGAIN, OTHER])
def test_seed_that_was_tried_once(run: Run, position: int) -> None:
    """Both a second run and a second seed are needed."""
    seen = [g for index, g in enumerate(run.evidence.all(Generation)) if index != position]
    assert run.recording(*seen).failed() == {"seeded"}
    assert run.recording(*seen).verdicts()["seeded"].measured is None


def test_nats_at_their_tolerance(run: Run) -> None:
    """It narrows with the number of stories, on both sides."""
    seen = run.evidence.all(Generation)
    stories = seen[AGAIN].stories + seen[OTHER].stories
    tolerance = DEVIATIONS * STORY_DEVIATION / math.sqrt(stories)
    for sign in (1, -1):
        for factor, passes in ((0.99, True), (1.01, False)):
            nats = 17.0 + sign * factor * tolerance
            moved = run.edited(Generation, AGAIN, nats=nats).edited(Generation, OTHER, nats=nats)
            assert ("sampled_nats" not in moved.failed()) is passes


@pytest.mark.parametrize("position", [AGAIN, OTHER])
@pytest.mark.parametrize("field", ["nats", "entropy"])
@pytest.mark.parametrize("figure", [math.nan, math.inf])
def test_nats_that_are_no_figure(run: Run, position: int, field: str, figure: float) -> None:
    """A seed without one story has nan for a mean, and that decides."""
    assert "sampled_nats" in run.edited(Generation, position, **{field: figure}).failed()


def test_not_one_sampled_story(run: Run) -> None:
    """There is nothing to take a mean of."""
    silent = run
    for position in (DRAWN, UNCACHED, AGAIN, OTHER):
        silent = silent.edited(Generation, position, stories=0, nats=math.nan)
    assert silent.failed() == {"grammatical", "sampled_nats"}


def test_texts_without_a_prompt(run: Run) -> None:
    """Empty events are no evidence for any of the checks."""
    silent = run
    for position in range(6):
        silent = silent.edited(Generation, position, texts=(), stories=0, nats=math.nan)
    assert silent.failed() == CHECKS
