"""Ordered candidates and a judge → where its answer changes; pure, whatever the candidates are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Literal, TypeVar

Side = Literal["near", "far"]
"""Which end something is like: the one that the candidates begin with, or the one they end with."""
Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Bracket:
    """Two candidates that differ, with nothing between them that can be told apart.

    Attributes:
        near: index of the last one that is like the first candidate.
        far: index of the first one that is like the last candidate.
        untestable: indexes of those between them, which are like neither.
    """

    near: int
    far: int
    untestable: tuple[int, ...] = ()


def narrow(
    count: int,
    judge: Callable[[int], Side | None],
    tell: Callable[[int], object] = lambda left: None,
    weights: Sequence[int] = (),
) -> Bracket:
    """Find a change between the first and the last of some candidates, whose sides are known.

    Of a history with several changes it finds one. Without untestable candidates it asks at most
    ceil(log2(count - 1)) times.

    Args:
        count: how many candidates there are, both ends among them.
        judge: which end a candidate is like; None where it can't be told.
        tell: takes, before each question, how many may follow at most, it included.
        weights: of the step from each candidate to the next, how many smaller steps it consists of;
            none for one each.
    """
    near, far = 0, count - 1
    totals = [0, *accumulate(weights or [1] * far)]
    untestable: set[int] = set()
    while far - near > 1:
        waiting = [i for i in range(near + 1, far) if i not in untestable]
        if not waiting:
            break
        tell(_most([near, *waiting, far], totals))
        index = _middle(near, far, untestable, totals)
        match judge(index):
            case "near":
                near = index
            case "far":
                far = index
            case None:
                untestable.add(index)
    return Bracket(near, far, tuple(sorted(i for i in untestable if near < i < far)))


def questions(steps: int) -> int:
    """Return how many questions find the one of so many steps that makes the difference."""
    return math.ceil(math.log2(steps)) if steps > 1 else 0


def _most(places: Sequence[int], totals: Sequence[int]) -> int:
    """Return how many questions find a change between the first and the last of some places.

    Those that the smaller steps between two neighbours take are counted in.
    """
    if len(places) == 2:
        return questions(totals[places[1]] - totals[places[0]])
    middle = min(range(1, len(places) - 1), key=lambda i: _uneven(places, i, totals))
    return 1 + max(_most(places[: middle + 1], totals), _most(places[middle:], totals))


def _uneven(places: Sequence[int], index: int, totals: Sequence[int]) -> int:
    """Return how far a place is from halving the way from the first to the last one."""
    return abs(2 * totals[places[index]] - totals[places[0]] - totals[places[-1]])


def _middle(near: int, far: int, untestable: set[int], totals: Sequence[int]) -> int:
    """Return the candidate to ask for: the middle, or where that can't be tested, far from it.

    What can't be tested lies in clusters, so its neighbours are asked for last.
    """
    return next(index for index in _halves(near, far, totals) if index not in untestable)


def _halves(near: int, far: int, totals: Sequence[int]) -> Iterator[int]:
    """Yield every index between two others: the middle, those of the halves, of the quarters."""
    spans = [range(near, far + 1)]
    for span in spans:  # grows while it is walked
        if len(span) > 2:
            middle = min(range(1, len(span) - 1), key=lambda i: _uneven(span, i, totals))
            yield span[middle]
            spans += [span[: middle + 1], span[middle:]]


def smallest(
    things: Sequence[Thing],
    judge: Callable[[Sequence[Thing]], bool],
    weight: Callable[[Thing], int] = lambda thing: 1,
    needed: Sequence[Thing] = (),
    tell: Callable[[int], object] = lambda left: None,
) -> list[Thing]:
    """Return a smallest part of some things that is enough: none of it can be left out.

    The shortest beginning of the list that is enough is found by halving: its last thing is
    needed; and so on, until those that are needed are enough.

    Args:
        things: all of them together, with those in `needed`, are enough.
        judge: whether some of them are enough. weight: how much there is to search in one.
        needed: those that are known to be. tell: takes, before each question, how many may follow
            at most until the next thing is found.
    """
    found, rest = list(needed), list(things)
    while rest:
        if found:
            tell(1)
            if judge(found):
                break
        known = partial(_side_with, judge, tuple(found), tuple(rest))
        last = narrow(len(rest) + 1, known, tell, [weight(one) for one in rest]).far - 1
        found.append(rest[last])
        rest = rest[:last]
    return found


def _side_with(
    judge: Callable[[Sequence[Thing]], bool],
    found: Sequence[Thing],
    rest: Sequence[Thing],
    count: int,
) -> Side:
    return "far" if judge([*found, *rest[:count]]) else "near"
