"""What a bisection found: releases of packages, and the sets on both sides of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tunematrix.versions.judging import Shown
from tunematrix.versions.sets import PackageSet


@dataclass(frozen=True)
class Culprit:
    """A package, one of whose releases flipped what was tried.

    Attributes:
        name: of it.
        last_good, first_bad: its versions; None for a set without it.
        published: when each of the two was, in this order; None where no index says.
        untestable: versions between them that couldn't be tried.
    """

    name: str
    last_good: str | None
    first_bad: str | None
    published: tuple[datetime | None, datetime | None] = (None, None)
    untestable: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bisection:
    """What was found.

    Attributes:
        culprits: what flipped it: one package, or several that had to move together.
        carried: other packages that moved with them, since they ask for it.
        good, bad: the sets on both sides of the change, which differ in those alone.
        signature: how the bad one ends.
        checks: those of the checks that fail at the bad end on which these releases made the
            difference; none where it ended with an exception.
        mended: whether the bad side is the older one, so that a release mended it.
        releases: how many sets there were to choose from, single releases apart, both between
            which this was looked for included.
        tried: how many runs of sets it took; runs: how many of them weren't known before.
        seconds: that those took.
        untestable: how sets were told that couldn't be judged, and why.
    """

    culprits: tuple[Culprit, ...]
    carried: tuple[str, ...]
    good: PackageSet
    bad: PackageSet
    signature: Shown
    mended: bool
    releases: int
    tried: int
    runs: int
    seconds: float
    untestable: Mapping[str, str] = field(default_factory=dict)
    checks: tuple[str, ...] = ()
