"""The two ends of a bisection: whether they will do, which is the older one, what they name."""

from __future__ import annotations

import math
from collections.abc import Sequence

from packaging.version import Version

from tunematrix.errors import BadInput, StepFailed
from tunematrix.versions.asked import AsItIs, Asked, ByPins
from tunematrix.versions.between import End, differing, when
from tunematrix.versions.index import Index
from tunematrix.versions.judging import Fault, SetJudge, Shown
from tunematrix.versions.sets import PackageSet

FEW = 3
"""Packages that both ends may name at most for the days of releases to be left out."""


def reproduced(good: End, bad: End, judge: SetJudge) -> None:
    """See that both ends are what they are said to be, and remember how the bad one ends.

    Raises:
        BadInput: they aren't, or what is tried is flaky.
    """
    name = judge.point.id
    of_bad = judge.end("bad end", bad.packages, judge.repeat)
    answers = [judge.answer(one) for one in of_bad]
    if judge.repeat == 1 and answers != [True]:
        of_bad = judge.end("bad end, once more", bad.packages, 2)
        answers = [judge.answer(one) for one in of_bad]
    if True not in answers:
        what = "can't be told there" if None in answers else "is good there"
        text = f"{name} {what}: {of_bad[-1]}, with {bad.packages.asked}"
        raise BadInput(f"the bad end isn't bad: {text}; name another with --bad")
    if judge.repeat == 1 and len({*answers}) > 1:
        raise BadInput(_flaky(name, of_bad, bad.packages))
    shown = of_bad[answers.index(True)]
    of_good = judge.end("good end", good.packages, judge.repeat)
    answers = [judge.answer(one) for one in of_good]
    if None in answers:
        text = f"the good end can't be told: {name}: {of_good[-1]}, with {good.packages.asked}"
        raise BadInput(f"{text}; name another with --good")
    worst = of_good[answers.index(True)] if True in answers else of_good[-1]
    if shown.signature is None or worst.signature is None:
        return
    only = frozenset([judge.check] if judge.check else [])
    fault = Fault(shown.signature, worst.signature, only)
    if True in answers and (judge.check or not fault.is_clear):
        both = "both ends are alike" if worst == shown else "the good end is bad"
        text = f"{both}: {name} is {worst}, with {good.packages.asked}"
        raise BadInput(f"{text}; name another with --good")
    judge.fault = fault
    if True in answers:
        judge.bench.say("the good end fails in another way; the bad end's own failure is followed")
    if len(fault.checks) > 1 and not judge.check:
        judge.bench.say("several checks fail there: releases are looked for until each has one")


def confirm(good: PackageSet, bad: PackageSet, judge: SetJudge, count: int) -> None:
    """Run the last good set and the first bad one once more, as far as the promise allows it.

    Args:
        good, bad: the sets. judge: what has been run.
        count: how many sets there were to choose from.

    Raises:
        StepFailed: one of them ends otherwise this time.
    """
    for name, packages, is_bad in (("last good set", good, False), ("first bad set", bad, True)):
        judge.left = promised(count) + judge.untold - judge.tried
        if judge.repeat > 1 or judge.left < 1:
            return
        seen = judge.end(f"{name}, once more", packages, 2)
        if any(judge.answer(one) is not is_bad for one in seen):
            raise StepFailed(_flaky(judge.point.id, seen, packages))


def promised(count: int) -> int:
    """Return how many runs find one culprit among so many sets, ends included."""
    return math.ceil(math.log2(count)) + 3


def _flaky(name: str, seen: Sequence[Shown], packages: PackageSet) -> str:
    ends = ", then ".join(map(str, seen))
    text = f"{name} is flaky: with the same packages ({packages.asked}) it ends as {ends}"
    return f"{text}; --repeat 5 tries each set five times, and one failure makes it bad"


def named_by(*asked: Asked) -> list[str]:
    """Return the packages that both ends name, where they name some and nothing else."""
    names: set[str] = set()
    for one in asked:
        match one:
            case ByPins(pins):
                names |= {*pins}
            case AsItIs():
                pass
            case _:
                return []
    return sorted(names)


def is_older(one: End, other: End, index: Index) -> bool:
    """Whether an end comes before another: by when its packages were released, or by versions."""
    names = named_by(one.asked, other.asked)
    if not names:
        names = differing(one.packages, other.packages)
        index.ask_for(names)
        first, second = when(one, names, index), when(other, names, index)
        if first is not None and second is not None:
            return first < second
    rising = sum(descends(name, other.packages, one.packages) for name in names)
    falling = sum(descends(name, one.packages, other.packages) for name in names)
    return rising >= falling


def descends(name: str, near: PackageSet, far: PackageSet) -> bool:
    """Whether the version of a package becomes a lower one from one set to another."""
    pair = near.versions.get(name), far.versions.get(name)
    return all(pair) and Version(str(pair[0])) > Version(str(pair[1]))
