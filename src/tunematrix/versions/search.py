"""Ordered candidates and a judge → where its answer changes; pure, whatever the candidates are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

Side = Literal["near", "far"]
"""Which end something is like: the one that the candidates begin with, or the one they end with."""
Thing = TypeVar("Thing")


FEW_ALONE = 4
"""Things that are tried each alone."""


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
) -> Bracket:
    """Find a change between the first and the last of some candidates, whose sides are known.

    Of a history with several changes it finds one. Without untestable candidates it asks at most
    ceil(log2(count - 1)) times.

    Args:
        count: how many candidates there are, both ends among them.
        judge: which end a candidate is like; None where it can't be told.
        tell: takes, before each question, how many may follow at most, it included.
    """
    near, far = 0, count - 1
    untestable: set[int] = set()
    while waiting := [i for i in range(near + 1, far) if i not in untestable]:
        tell(probes(len(waiting) + 2))
        index = _middle(near, far, untestable)
        match judge(index):
            case "near":
                near = index
            case "far":
                far = index
            case None:
                untestable.add(index)
    return Bracket(near, far, tuple(sorted(i for i in untestable if near < i < far)))


def probes(count: int) -> int:
    """Return how many questions find a change among candidates, both ends among them."""
    return math.ceil(math.log2(count - 1)) if count > 2 else 0


def _middle(near: int, far: int, untestable: set[int]) -> int:
    """Return the candidate to ask for: the middle, or where that can't be tested, far from it.

    What can't be tested lies in clusters, so its neighbours are asked for last.
    """
    return next(index for index in _halves(near, far) if index not in untestable)


def _halves(near: int, far: int) -> Iterator[int]:
    """Yield every index between two others: the middle, those of the halves, of the quarters."""
    spans = [(near, far)]
    for low, high in spans:  # grows while it is walked
        if high - low > 1:
            middle = (low + high) // 2
            yield middle
            spans += [(low, middle), (middle, high)]


def smallest(things: Sequence[Thing], judge: Callable[[Sequence[Thing]], bool]) -> list[Thing]:
    """Return a smallest part of some things that is enough: none of it can be left out.

    Of a few, each is tried alone, in the order given. Of many, or where none alone is enough, the
    shortest beginning of the list that is enough is found by halving: its last thing is needed;
    and so on, until those that are needed are enough.

    Args:
        things: all of them together are enough.
        judge: whether some of them are enough.
    """
    if 1 < len(things) <= FEW_ALONE:
        for one in things:
            if judge([one]):
                return [one]
    if len(things) == 2:
        return list(things)
    needed, rest = list[Thing](), list(things)
    while not needed or not judge(needed):
        too_few, enough = 0, len(rest)
        while enough - too_few > 1:
            middle = (too_few + enough) // 2
            if judge([*needed, *rest[:middle]]):
                enough = middle
            else:
                too_few = middle
        needed.append(rest[enough - 1])
        rest = rest[: enough - 1]
        if not rest:
            break
    return needed
