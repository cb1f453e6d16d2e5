"""Two sets of packages → how many releases lie between them, and sets in single steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from tunematrix.versions.apart import SetStep, step
from tunematrix.versions.between import Candidate, at_versions, differing, passed, ranges
from tunematrix.versions.index import Index
from tunematrix.versions.line import LastStep, SetPlace
from tunematrix.versions.resolving import NoSuchSet
from tunematrix.versions.sets import Beneath, PackageSet


@dataclass(frozen=True)
class ByReleases:
    """Comes from one set to another by single packages, and each by its releases.

    Attributes:
        index: knows the releases. below: the environment that sets are laid over.
        named: the only packages that may move by themselves, where both ends name some. Then the
            others may be in any version that fits, and else they stay between those of both sets.
    """

    index: Index
    below: Beneath
    named: Sequence[str] = ()

    def length(self, near: PackageSet, far: PackageSet) -> int:
        """Return how many releases lie between two sets, those of the second included."""
        names = differing(near, far)
        self.index.ask_for(names)
        return sum(len(passed(name, near, far, self.index)) for name in names)

    def apart(self, near: PackageSet, far: PackageSet) -> tuple[Sequence[SetPlace], LastStep]:
        """Return places between two sets in single steps, and what leads from the last to far."""
        between = step(self.named or differing(near, far), near, far, self.index, self.below)
        places = list(self._places(between))
        return places[:-1], LastStep(between, len(between.groups))

    def _places(self, between: SetStep) -> Iterator[SetPlace]:
        before = between.near
        for count, group in enumerate(between.groups, start=1):
            after, origin = between.moved(between.groups[:count]), LastStep(between, count)
            for version in passed(group.name, before, after, self.index)[:-1]:
                yield SetPlace(self._at(group.name, version, before, after), version, origin)
            yield _place(after, group.name, origin)
            before = after

    def _at(self, name: str, version: str, before: PackageSet, after: PackageSet) -> Candidate:
        """Return the set in which a package has come to a release between those of two sets."""
        if not self.named:
            bounds = ranges(before, after)
            there = at_versions({name: version}, before, bounds, self.below)
            return Candidate(there.told, cache(lambda: _only(there, before, after)))
        pins = {n: before.versions[n] for n in self.named if n in before.versions}
        return at_versions({**pins, name: version}, self.below.packages, {}, self.below)


def _only(candidate: Candidate, before: PackageSet, after: PackageSet) -> PackageSet:
    """Return a set in which nothing has moved but what differs between two others.

    Raises:
        NoSuchSet: more has to move, so it doesn't lie between the two.
    """
    found = candidate.resolve()
    free = {*differing(before, after)}
    if more := [n for n in differing(before, found) if n in before.versions and n not in free]:
        text = f"{', '.join(more)} would have to move as well"
        raise NoSuchSet(f"{candidate.told}: {text}", text)
    return found


def place_of(packages: PackageSet) -> SetPlace:
    """Return the place of a set that is there already."""
    return SetPlace(Candidate(packages.asked, lambda: packages), packages=packages)


def _place(packages: PackageSet, name: str, origin: LastStep) -> SetPlace:
    place = place_of(packages)
    place.version, place.origin = packages.versions.get(name, ""), origin
    return place
