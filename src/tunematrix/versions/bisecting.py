"""A good and a bad set of packages → the release that flipped a cell or a relation.

The recipe: both ends are reproduced; then what an installer would have chosen at the moments of
releases in between is tried, halving them; of the packages that differ in the last step each is
tried alone, and then together as far as it takes; last the releases of those in between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from tunematrix.errors import BadInput, StepFailed
from tunematrix.versions.between import (
    Candidate,
    End,
    at_moments,
    at_versions,
    differing,
    moments,
    ranges,
    within,
)
from tunematrix.versions.ends import FEW, confirm, descends, is_older, named_by, reproduced
from tunematrix.versions.index import Index
from tunematrix.versions.judging import SetJudge, Shown
from tunematrix.versions.overlays import LEADING
from tunematrix.versions.resolving import NoSuchSet
from tunematrix.versions.search import Side, narrow, smallest
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
        mended: whether the bad side is the older one, so that a release mended it.
        releases: how many sets lay between the ends, ends included.
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


@dataclass
class Bisecting:
    """One bisection under way: from its older end to its newer one.

    Attributes:
        older, newer: the ends. mended: whether the older one is bad.
        judge: tells good from bad. index: knows the releases.
        releases: how many sets there were to choose from, ends included.
    """

    older: End
    newer: End
    mended: bool
    judge: SetJudge
    index: Index
    releases: int = 2

    def side(self, candidate: Candidate) -> Side | None:
        """Return which end a candidate is like; None where that can't be told."""
        try:
            packages = candidate.resolve()
        except NoSuchSet as error:
            self.judge.skip(candidate.told, error.reason)
            return None
        bad = self.judge.is_bad(packages)
        return None if bad is None else "near" if bad == self.mended else "far"

    def by_moment(self) -> tuple[PackageSet, PackageSet]:
        """Return the two sets between which it changes, in the order of releases' moments."""
        near, far, below = self.older.packages, self.newer.packages, self.judge.bench.below
        times = moments(self.older, self.newer, self.index)
        if not times:
            self.judge.bench.say("no index says when these were released: trying packages apart")
            return near, far
        between = at_moments(times, self.older, self.newer, below)
        self.releases = len(between) + 2
        first, last = f"{min(times):%Y-%m-%d}", f"{max(times):%Y-%m-%d}"
        self.judge.bench.say(f"{len(times)} moments of releases from {first} to {last}")
        found = narrow(self.releases, lambda i: self.side(between[i - 1]), self._tell)
        if found.near > 0:
            near = between[found.near - 1].resolve()
        if found.far < self.releases - 1:
            far = between[found.far - 1].resolve()
        return near, far

    def by_package(self, choice: Sequence[str], near: PackageSet, far: PackageSet) -> Sequence[str]:
        """Return those of some packages that are enough to come from one set to the other."""
        moving = {*choice} & {*differing(near, far)} & {*far.versions}
        names = sorted(moving, key=lambda name: (_rank(name, self.judge.bench.below.roots), name))
        if not names:
            text = f"{', '.join(differing(near, far))}: only gone from {far.asked}"
            raise StepFailed(f"what differs there can't be moved apart ({text})")
        if len(names) > 1:
            self.judge.left = 0
            self.judge.bench.say(f"{len(names)} packages differ there: {', '.join(names)}")

        def is_enough(some: Sequence[str]) -> bool:
            return self.side(self._moved(some, near, far)) == "far"

        found = smallest(names, is_enough)
        if len(found) == 1 and len(names) > 1:
            return [self._without_asker(found[0], near, far)]
        return found

    def _without_asker(self, name: str, near: PackageSet, far: PackageSet) -> str:
        """Return the package that is enough alone of those that another brought, or the other."""
        for brought in differing(near, self._moved([name], near, far).resolve()):
            if brought == name or brought not in far.versions:
                continue
            candidate = self._moved([brought], near, far)
            with suppress(NoSuchSet):
                stays = candidate.resolve().versions.get(name) == near.versions.get(name)
                if stays and self.side(candidate) == "far":
                    return brought
        return name

    def without_others(self, names: Sequence[str], near: PackageSet, far: PackageSet) -> PackageSet:
        """Return the far set with only those packages moved that are enough, and what they need."""
        if {*names} == {*differing(near, far)}:
            return far
        try:
            return self._moved(names, near, far).resolve()
        except NoSuchSet:  # the only ones that move, so that nobody tried them alone
            return far

    def by_version(
        self, name: str, names: Sequence[str], near: PackageSet, far: PackageSet, over: PackageSet
    ) -> tuple[Culprit, PackageSet, PackageSet]:
        """Find the release of a package that is enough, and the sets before and with it.

        Args:
            name: of the package. names: those that have to move with it, itself included.
            near, far: the sets that it changes between. over: what else a set consists of.
        """
        releases = within(name, near, far, self.index)
        ends = {near.versions.get(name), far.versions.get(name)}
        own = [str(one.version) for one in releases if str(one.version) not in ends]
        if descends(name, near, far):
            own.reverse()
        pins, below = {n: far.versions[n] for n in names}, self.judge.bench.below
        # Over the environment, what fits isn't bounded by two sets.
        bounds = ranges(near, far) if over == near else {}
        between = [at_versions({**pins, name: v}, over, bounds, below) for v in own]
        self.releases = max(self.releases, len(between) + 2)
        found = narrow(len(between) + 2, lambda i: self.side(between[i - 1]), self._tell)
        before = near if found.near == 0 else between[found.near - 1].resolve()
        after = far if found.far > len(between) else between[found.far - 1].resolve()
        pair = before.versions.get(name), after.versions.get(name)
        dates = {str(one.version): one.published for one in releases}
        untestable = tuple(own[i - 1] for i in found.untestable)
        if self.mended:
            pair = pair[1], pair[0]
        published = dates.get(pair[0] or ""), dates.get(pair[1] or "")
        return Culprit(name, *pair, published, untestable), before, after

    def _moved(self, names: Sequence[str], near: PackageSet, far: PackageSet) -> Candidate:
        pins = {name: far.versions[name] for name in names}
        return at_versions(pins, near, ranges(near, far), self.judge.bench.below)

    def _tell(self, left: int) -> None:
        self.judge.left = left


def bisect(good: End, bad: End, judge: SetJudge, index: Index) -> Bisection:
    """Find the release that flipped a cell or a relation.

    Raises:
        BadInput: the ends don't differ, the good one is bad, or what is tried is flaky.
        StepFailed: it is flaky on the way.
        MachineProblem: an index can't be reached, or there is no space left.
    """
    if not differing(good.packages, bad.packages):
        text = f"{good.packages.asked} and {bad.packages.asked} are the same packages"
        raise BadInput(f"{text}, so nothing lies between them; name other ends")
    reproduced(good, bad, judge)
    mended = is_older(bad, good, index)
    way = Bisecting(*((bad, good) if mended else (good, bad)), mended, judge, index)
    near, far = way.older.packages, way.newer.packages
    over = judge.bench.below.packages
    named = named_by(good.asked, bad.asked)
    if 0 < len(named) <= FEW:
        names = way.by_package(named, near, far)
        if len(names) < len(named):  # or the others would seem to have moved with them
            far = way.without_others(names, near, far)
    else:
        near, far = way.by_moment()
        names, over = way.by_package(differing(near, far), near, far), near
        far = way.without_others(names, near, far)
    culprits = []
    for name in names:
        culprit, before, after = way.by_version(name, names, near, far, over)
        culprits.append(culprit)
        near, far = (before, after) if name == names[-1] else (near, far)
    first, last = (far, near) if mended else (near, far)
    confirm(first, judge, way.releases)
    others = (name for name in differing(near, far) if name not in names)
    carried = tuple(name for name in others if name in far.versions)  # none asks for one to go
    return Bisection(
        culprits=tuple(culprits),
        carried=carried,
        good=first,
        bad=last,
        signature=judge.last_of(last),
        mended=mended,
        releases=way.releases,
        tried=judge.tried,
        runs=judge.runs,
        seconds=judge.seconds,
        untestable=judge.untestable,
    )


def _rank(name: str, roots: Sequence[str]) -> int:
    """Return how likely a package is to blame: the smaller the likelier."""
    if name in LEADING:
        return LEADING.index(name)
    return len(LEADING) if name in roots else len(LEADING) + 1
