"""A good and a bad set of packages → the release that flipped a cell or a relation.

The recipe: both ends are reproduced; then what an installer would have chosen at the moments of
releases in between is tried, halving the releases. Where sets are too far apart for that, they are
taken apart into single packages, and each into its releases. Last, a package is tried alone if
others moved at the same moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tunematrix.errors import BadInput, StepFailed, counted
from tunematrix.versions.apart import MovingGroup, SetStep, ranked, step
from tunematrix.versions.asked import ByPins
from tunematrix.versions.between import (
    Candidate,
    End,
    at_moments,
    at_versions,
    differing,
    moments,
    passed,
    ranges,
)
from tunematrix.versions.ends import FEW, confirm, is_older, named_by, promised, reproduced
from tunematrix.versions.found import Bisection, Culprit
from tunematrix.versions.index import Index
from tunematrix.versions.judging import SetJudge
from tunematrix.versions.line import LastStep, SetLine, SetPlace
from tunematrix.versions.resolving import NoSuchSet
from tunematrix.versions.search import Side, narrow, smallest
from tunematrix.versions.sets import PackageSet
from tunematrix.versions.ways import ByReleases, place_of


@dataclass(frozen=True)
class SetChange:
    """Two sets of which the second is like the newer end, and the first like the older one.

    Attributes:
        names: the packages that have to move from `near` to `far`; what they need moves too.
        near, far: the sets.
        untestable: versions between the two that couldn't be tried.
        is_single: whether nothing lies between them that could be tried.
    """

    names: tuple[str, ...]
    near: PackageSet
    far: PackageSet
    untestable: tuple[str, ...] = ()
    is_single: bool = True


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

    def by_moment(self) -> SetChange:
        """Return what is to blame, in the order of releases' moments."""
        times = moments(self.older, self.newer, self.index)
        ways = ByReleases(self.index, self.judge.bench.below)
        if not times:
            self.judge.bench.say("no index says when these were released: trying packages apart")
        else:
            first, last = f"{min(times):%Y-%m-%d}", f"{max(times):%Y-%m-%d}"
            text = counted(len(times), "moment")
            self.judge.bench.say(f"{text} of releases from {first} to {last}")
        between = at_moments(times, self.older, self.newer, self.judge.bench.below)
        return self._on_line([SetPlace(one) for one in between], ways)

    def by_name(self, names: Sequence[str]) -> SetChange:
        """Return what is to blame of some packages; the others only move with these."""
        return self._on_line([], ByReleases(self.index, self.judge.bench.below, names))

    def _on_line(self, between: Sequence[SetPlace], ways: ByReleases) -> SetChange:
        """Return what is to blame, by the places between the ends."""
        ends = place_of(self.older.packages), place_of(self.newer.packages)
        line = SetLine([ends[0], *between, ends[1]], ways, self.judge.skip)

        def tell(left: int) -> None:
            self.releases = line.longest + 1
            self._tell(max(left, self._promised()))

        near, far = line.find(self.side_of, tell)
        self.releases = line.longest + 1
        sides = (far, near) if self.mended else (near, far)
        self.judge.settle_for(*(place.worked_out() for place in sides))
        if far.origin is None or not far.origin.step.groups:
            sets = near.worked_out(), far.worked_out()
            text = f"{', '.join(differing(*sets))}: only gone from {sets[1].asked}"
            raise StepFailed(f"what differs there can't be moved apart ({text})")
        return self._alone(near, far, far.origin)

    def _alone(self, near: SetPlace, far: SetPlace, origin: LastStep) -> SetChange:
        """Return what is to blame in a single step; what moved before it may be needed as well."""
        groups, sets = origin.step.groups[: origin.count], (near.worked_out(), far.worked_out())
        if any(lost.origin != origin for lost in far.lost):
            # Several packages differ there, and sets between can't be tried.
            both = step(differing(*sets), *sets, self.index, self.judge.bench.below)
            return self._needed(both, known=0)
        *others, last = groups
        reached = SetStep(origin.step.near, sets[1], groups)
        apart = any(not _is_part(group, [last]) for group in others)
        self._tell(max(1, self._promised()))
        if apart and self.side_of(reached.moved([last])) == "near":
            return self._needed(reached, known=1)
        return SetChange((last.name,), *sets, tuple(place.version for place in far.lost))

    def _needed(self, between: SetStep, known: int) -> SetChange:
        """Return the groups of a step that are enough; the last `known` of them are needed."""
        groups = between.groups
        if len(groups) > 1:
            names = ", ".join(one.name for one in groups)
            self.judge.bench.say(f"{len(groups)} packages differ there: {names}")
        needed = groups[len(groups) - known :]
        # What moves with those that are needed needn't be left out.
        rest = [one for one in groups[: len(groups) - known] if not _is_part(one, needed)]

        def is_enough(some: Sequence[MovingGroup]) -> bool:
            return self.side_of(between.moved(some)) == "far"

        found = smallest(rest, is_enough, lambda one: one.weight, needed, self._tell)
        far = between.far if len(found) == len(needed) + len(rest) else between.moved(found)
        blamed = sorted((one.name for one in found), key=ranked(self.judge.bench.below.roots))
        return SetChange(tuple(blamed), between.near, far, is_single=False)

    def by_versions(
        self, change: SetChange, over: PackageSet
    ) -> tuple[list[Culprit], PackageSet, PackageSet]:
        """Find which release of each package it is, of several that have to move together.

        Returns: the packages, and the sets before and with the last of them.
        """
        culprits, near, far = list[Culprit](), change.near, change.far
        for name in change.names:
            culprit, *sets = self._by_version(name, change, over)
            culprits.append(culprit)
            near, far = sets
        return culprits, near, far

    def _by_version(
        self, name: str, change: SetChange, over: PackageSet
    ) -> tuple[Culprit, PackageSet, PackageSet]:
        """Find the release of a package that is enough, and the sets before and with it.

        Args:
            name: of the package. change: all that have to move with it, and between which sets.
            over: what else a set consists of.
        """
        near, far, below = change.near, change.far, self.judge.bench.below
        own = passed(name, near, far, self.index)[:-1]
        pins = {n: far.versions[n] for n in change.names}
        # Over the environment, what fits isn't bounded by two sets.
        bounds = ranges(near, far) if over == near else {}
        between = [at_versions({**pins, name: v}, over, bounds, below) for v in own]
        found = narrow(len(between) + 2, lambda i: self.side(between[i - 1]), self._tell)
        before = near if found.near == 0 else between[found.near - 1].resolve()
        after = far if found.far > len(between) else between[found.far - 1].resolve()
        untestable = tuple(own[i - 1] for i in found.untestable)
        return self.culprit(name, before, after, untestable), before, after

    def culprit(
        self, name: str, near: PackageSet, far: PackageSet, untestable: tuple[str, ...]
    ) -> Culprit:
        """Say of a package which of its releases made the difference, and when they came."""
        pair = near.versions.get(name), far.versions.get(name)
        if self.mended:
            pair = pair[1], pair[0]
        dates = {str(one.version): one.published for one in self.index.releases(name)}
        published = dates.get(pair[0] or ""), dates.get(pair[1] or "")
        return Culprit(name, *pair, published, untestable)

    def _promised(self) -> int:
        """Return how many of the runs that are promised for one culprit are left."""
        return promised(self.releases) + self.judge.untold - self.judge.tried

    def _tell(self, left: int) -> None:
        self.judge.left = left


def bisect(good: End, bad: End, judge: SetJudge, index: Index) -> Iterator[Bisection]:
    """Find the releases that flipped a cell or a relation.

    Mostly it is one. Where several checks fail at the bad end, each may have its own: those that
    don't fail yet in the first bad set are followed from there on, until none is left.

    Yields: what was found, nearest to the good end first.

    Raises:
        BadInput: the ends don't differ, the good one is bad, or what is tried is flaky.
        StepFailed: it is flaky on the way.
        MachineProblem: an index can't be reached, or there is no space left.
    """
    if not differing(good.packages, bad.packages):
        text = f"{good.packages.asked} and {bad.packages.asked} are the same packages"
        raise BadInput(f"{text}, so nothing lies between them; name other ends")
    reproduced(good, bad, judge)
    mended, named = is_older(bad, good, index), named_by(good.asked, bad.asked)
    while True:
        ends = (bad, good) if mended else (good, bad)
        found = _found(Bisecting(*ends, mended, judge, index), named)
        yield found
        if not judge.has_more(found.bad, bad.packages):
            return
        good = End(ByPins(found.bad.versions), found.bad)


def _found(way: Bisecting, named: Sequence[str]) -> Bisection:
    """Find what flips on the way; `named` are the packages that both ends name."""
    judge, is_by_name = way.judge, 0 < len(named) <= FEW
    change = way.by_name(named) if is_by_name else way.by_moment()
    names, near, far = change.names, change.near, change.far
    if change.is_single:
        culprits = [way.culprit(names[0], near, far, change.untestable)]
    else:
        over = judge.bench.below.packages if is_by_name else near
        culprits, near, far = way.by_versions(change, over)
    first, last = (far, near) if way.mended else (near, far)
    confirm(first, last, judge, way.releases)
    others = (name for name in differing(near, far) if name not in names)
    carried = tuple(name for name in others if name in far.versions)  # none asks for one to go
    return Bisection(
        culprits=tuple(culprits),
        carried=carried,
        good=first,
        bad=last,
        signature=judge.worst_of(last),
        mended=way.mended,
        releases=way.releases,
        tried=judge.tried,
        runs=judge.runs,
        seconds=judge.seconds,
        untestable=judge.untestable,
        checks=judge.flipped(first, last),
    )


def _is_part(one: MovingGroup, needed: Sequence[MovingGroup]) -> bool:
    """Whether a group moves anyhow where those that are needed do."""
    return any(one.moved <= other.moved for other in needed)
