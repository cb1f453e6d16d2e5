from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest

from tunematrix.versions.search import Bracket, Side, narrow, smallest


class History:
    """Candidates that change from near to far at one place, some of which can't be tested."""

    def __init__(self, change: int, untestable: Sequence[int] = ()) -> None:
        self.change, self.untestable, self.asked = change, untestable, list[int]()

    def __call__(self, index: int) -> Side | None:
        """Say which end a candidate is like."""
        self.asked.append(index)
        if index in self.untestable:
            return None
        return "far" if index >= self.change else "near"


@pytest.mark.parametrize("count", [2, 3, 4, 5, 17, 20, 21, 33, 100, 365])
def test_every_change_is_found(count: int) -> None:
    """Wherever it is, it is found with as few questions as halving takes, none asked twice."""
    for change in range(1, count):
        history = History(change)
        assert narrow(count, history) == Bracket(change - 1, change)
        assert len(history.asked) <= math.ceil(math.log2(count - 1)) if count > 2 else True
        assert len(set(history.asked)) == len(history.asked)


def test_untestable_ones_are_stepped_over() -> None:
    """What can't be tested is asked once and left aside; the change is found beside it."""
    history = History(70, untestable=range(45, 60))
    assert narrow(100, history) == Bracket(69, 70)
    assert len(history.asked) <= 12


def test_a_change_among_untestable_ones() -> None:
    """Where it lies among those, all that is known is told: the range, and what is in it."""
    history = History(50, untestable=[48, 49, 50, 51])
    assert narrow(100, history) == Bracket(47, 52, (48, 49, 50, 51))


def test_nothing_in_between_can_be_tested() -> None:
    """Both ends remain, with all that lies between them."""
    assert narrow(5, lambda index: None) == Bracket(0, 4, (1, 2, 3))


def test_a_change_that_comes_and_goes() -> None:
    """Of several changes one is found, and it is one."""
    generator = random.Random(1)
    for _ in range(200):
        sides: list[Side] = ["near", *generator.choices(("near", "far"), k=30), "far"]
        found = narrow(len(sides), sides.__getitem__)
        assert found.far == found.near + 1
        assert (sides[found.near], sides[found.far]) == ("near", "far")


def test_what_is_left_is_told() -> None:
    """Before each question it says how many there may be yet, and there are no more than that."""
    told: list[int] = []
    narrow(20, History(7), told.append)
    assert told[0] == 5 and told[-1] <= 2 and told == sorted(told, reverse=True)
    assert all(left >= len(told) - asked for asked, left in enumerate(told))


class Together:
    """Is enough if all of some things are there; counts what it was asked."""

    def __init__(self, *needed: str) -> None:
        self.needed, self.asked = {*needed}, list[tuple[str, ...]]()

    def __call__(self, some: Sequence[str]) -> bool:
        """Say whether some are enough."""
        self.asked.append(tuple(some))
        return self.needed <= {*some}


@pytest.mark.parametrize("needed", "abcdefgh")
def test_one_alone(needed: str) -> None:
    """One that is enough alone is found by halving, and then tried alone."""
    judge = Together(needed)
    assert smallest(list("abcdefgh"), judge) == [needed]
    assert len({*judge.asked}) <= math.ceil(math.log2(8)) + 1


def test_what_is_needed_already() -> None:
    """What is known to be needed isn't looked for; it is tried alone, and then with others."""
    alone, both = Together("e"), Together("e", "b")
    assert smallest(list("abcd"), alone, needed=["e"]) == ["e"]
    assert alone.asked == [("e",)]
    assert smallest(list("abcd"), both, needed=["e"]) == ["e", "b"]


def test_weighty_things_are_halved_alone() -> None:
    """Where one has most of what is to search, it is set apart from the others first."""
    judge = Together("d")
    weights = {"a": 1, "b": 1, "c": 1, "d": 40}
    assert smallest(list("abcd"), judge, weights.__getitem__) == ["d"]
    assert judge.asked == [("a", "b", "c"), ("d",)]


def test_the_only_one() -> None:
    """Where there is one, nothing is asked: all of them together are known to be enough."""
    judge = Together("a")
    assert smallest(["a"], judge) == ["a"]
    assert judge.asked == []


@pytest.mark.parametrize("needed", ["ab", "af", "cd", "be", "abc", "bdf", "abcdef"])
def test_several_together(needed: str) -> None:
    """Those that must move together are found, and none that needn't."""
    judge = Together(*needed)
    assert sorted(smallest(list("abcdef"), judge)) == sorted(needed)
    assert len(judge.asked) <= 20


def test_of_many_two() -> None:
    """Twenty packages differ and two must move together."""
    things = [f"p{number}" for number in range(20)]
    judge = Together("p3", "p17")
    assert sorted(smallest(things, judge)) == ["p17", "p3"]
    assert len(judge.asked) <= 12


def test_two_that_are_enough_each() -> None:
    """Of several that are enough alone, one is taken."""

    def judge(some: Sequence[str]) -> bool:
        return not {"b", "e"}.isdisjoint(some)

    assert smallest(list("abcdef"), judge) == ["b"]
    assert smallest(list("ceb"), judge) == ["e"]


def test_weights_spare_questions() -> None:
    """Steps that consist of many are halved by these; so no more is asked than of these alone."""
    generator = random.Random(2)
    for _ in range(200):
        weights = generator.choices((1, 1, 1, 2, 3, 7), k=generator.randint(2, 300))
        change = generator.randint(1, len(weights))
        history, told = History(change), list[int]()
        found = narrow(len(weights) + 1, history, told.append, weights)
        assert found == Bracket(change - 1, change)
        within = math.ceil(math.log2(weights[change - 1]))
        assert len(history.asked) + within <= math.ceil(math.log2(sum(weights))) + 1
        assert not told or len(history.asked) + within <= told[0]
