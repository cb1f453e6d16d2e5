"""A good and a bad set of packages → the release that flipped a cell or a relation.

The recipe: both ends are reproduced; then what an installer would have chosen at the moments of
releases in between is tried, halving them; the last of these are taken apart into steps of single
packages, and halved as well; last the releases of those that are to blame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

from tunematrix.errors import BadInput, StepFailed, counted
from tunematrix.versions.apart import MovingGroup, SetStep, at_once, ranked, resolved_or_none, step
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
from tunematrix.versions.resolving import NoSuchSet
from tunematrix.versions.search import Side, narrow, smallest
from tunematrix.versions.sets import PackageSet

FINE = 16
"""Sets by the moments of releases that are worked out at once, to be taken apart."""


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
        releases: how many sets lay between the ends, single releases apart, ends included.
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


@dataclass(frozen=True)
class Blamed:
    """Two sets of which the second is like the newer end, and the first like the older one.

    Attributes:
        names: the packages that have to move from `near` to `far`; what they need moves too.
        near, far: the sets.
    """

    names: tuple[str, ...]
    near: PackageSet
    far: PackageSet


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

    def side_of(self, packages: PackageSet) -> Side | None:
        """Return which end a set is like; None where that can't be told."""
        bad = self.judge.is_bad(packages)
        return None if bad is None else "near" if bad == self.mended else "far"

    def side(self, candidate: Candidate) -> Side | None:
        """Return which end a candidate is like; None where that can't be told."""
        try:
            packages = candidate.resolve()
        except NoSuchSet as error:
            self.judge.skip(candidate.told, error.reason)
            return None
        return self.side_of(packages)

    def by_moment(self) -> Blamed:
        """Return the packages that are to blame, in the order of releases' moments."""
        older, newer = self.older.packages, self.newer.packages
        times = moments(self.older, self.newer, self.index)
        if not times:
            self.judge.bench.say("no index says when these were released: trying packages apart")
            return self.by_package(differing(older, newer), older, newer)
        between = at_moments(times, self.older, self.newer, self.judge.bench.below)
        weights = [*map(len, times.values()), 1]
        self.releases = sum(weights) + 1
        first, last = f"{min(times):%Y-%m-%d}", f"{max(times):%Y-%m-%d}"
        self.judge.bench.say(f"{len(times)} moments of releases from {first} to {last}")
        ask, count = lambda i: self.side(between[i - 1]), len(between) + 2
        found = narrow(count, ask, self._tell, weights, FINE)
        inner = [i for i in range(found.near, found.far + 1) if i not in found.untestable]
        sets = self._worked_out([between[i - 1] for i in inner if 0 < i < count - 1])
        ends = [older] * (found.near == 0), [newer] * (found.far == count - 1)
        return self._in_steps([*ends[0], *sets, *ends[1]], sum(weights[found.near : found.far]))

    def _worked_out(self, candidates: Sequence[Candidate]) -> list[PackageSet]:
        """Return the sets that some candidates are; those that don't exist are told."""
        self.judge.bench.say(f"working out the last {counted(len(candidates), 'set')}")
        sets = list[PackageSet]()
        for candidate, there in zip(candidates, at_once(resolved_or_none, candidates), strict=True):
            if isinstance(there, NoSuchSet):
                self.judge.skip(candidate.told, there.reason)
            else:
                sets.append(there)
        return sets

    def _in_steps(self, sets: Sequence[PackageSet], weight: int) -> Blamed:
        """Return the packages that are to blame, among the steps between sets that follow.

        Args:
            sets: the first is like the older end, the last like the newer one.
            weight: how many releases they were taken for.
        """
        chain, places, weights = [sets[0]], list[tuple[SetStep, int]](), list[int]()
        for near, far in pairwise(sets):
            if names := differing(near, far):
                one = step(names, near, far, self.index, self.judge.bench.below)
                for count in range(1, len(one.groups) + 1):
                    chain.append(one.moved(one.groups[:count]))
                    places.append((one, count))
                weights += [group.weight for group in one.groups]
        self.releases += max(0, sum(weights) - weight)
        found = narrow(len(chain), lambda i: self.side_of(chain[i]), self._tell, weights)
        if found.far > found.near + 1:  # what lies between can't be tried
            near, far = chain[found.near], chain[found.far]
            return self.by_package(differing(near, far), near, far)
        one, count = places[found.near]
        return self._needed(SetStep(one.near, chain[found.far], one.groups[:count]), known=1)

    def by_package(self, choice: Sequence[str], near: PackageSet, far: PackageSet) -> Blamed:
        """Return those of some packages that are enough to come from one set to the other."""
        between = step(choice, near, far, self.index, self.judge.bench.below)
        if not between.groups:
            text = f"{', '.join(differing(near, far))}: only gone from {far.asked}"
            raise StepFailed(f"what differs there can't be moved apart ({text})")
        self.releases = max(self.releases, sum(one.weight for one in between.groups) + 1)
        return self._needed(between, known=0)

    def _needed(self, between: SetStep, known: int) -> Blamed:
        """Return the groups of a step that are enough; the last `known` of them are needed."""
        groups = between.groups
        if len(groups) > 1:
            names = ", ".join(one.name for one in groups)
            self.judge.bench.say(f"{len(groups)} packages differ there: {names}")
        needed = groups[len(groups) - known :]
        # What moves with those that are needed hasn't to be left out.
        rest = [one for one in groups[: len(groups) - known] if not _is_part(one, needed)]

        def is_enough(some: Sequence[MovingGroup]) -> bool:
            return self.side_of(between.moved(some)) == "far"

        found = smallest(rest, is_enough, lambda one: one.weight, needed, self._tell)
        far = between.far if len(found) == len(needed) + len(rest) else between.moved(found)
        blamed = sorted((one.name for one in found), key=ranked(self.judge.bench.below.roots))
        return Blamed(tuple(blamed), between.near, far)

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
        change = way.by_package(named, near, far)
    else:
        change = way.by_moment()
        over = change.near
    names, near, far = change.names, change.near, change.far
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


def _is_part(one: MovingGroup, needed: Sequence[MovingGroup]) -> bool:
    """Whether a group moves anyhow where those that are needed do."""
    return any(one.moved <= other.moved for other in needed)
