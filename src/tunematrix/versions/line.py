"""Sets in an order, most of them not worked out yet → the two between which an answer changes.

A line begins with two sets and what an installer would have chosen in between. Where these are too
far apart to halve the way, the step from one to the next is taken apart: into single packages, and
the releases of each. So no question leaves more than half of the releases, rounded up to a power
of two, and n sets take at most ceil(log2(n - 1)) questions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tunematrix.versions.apart import SetStep
from tunematrix.versions.between import Candidate
from tunematrix.versions.resolving import NoSuchSet
from tunematrix.versions.search import Side, questions
from tunematrix.versions.sets import PackageSet


@dataclass(frozen=True)
class LastStep:
    """The single step that leads to a place.

    Attributes:
        step: the two sets that it lies between. count: of its groups, how many have moved there;
            the last of them is the one that the single step belongs to.
    """

    step: SetStep
    count: int


@dataclass(eq=False)
class SetPlace:
    """A set on a line.

    Attributes:
        candidate: it. version: of the package that moves there, where that is one in between.
        origin: the single step that leads here from the place before; None where it isn't single.
        lost: places just before this one that couldn't be tried.
    """

    candidate: Candidate
    version: str = ""
    origin: LastStep | None = None
    lost: list[SetPlace] = field(default_factory=list)
    packages: PackageSet | None = None

    def worked_out(self) -> PackageSet:
        """Return the set.

        Raises:
            NoSuchSet: nothing fits together so.
        """
        if self.packages is None:
            self.packages = self.candidate.resolve()
        return self.packages


class Ways(Protocol):
    """Knows how to come from one set to another."""

    def length(self, near: PackageSet, far: PackageSet) -> int:
        """Return how many releases lie between two sets, those of the second included."""

    def apart(self, near: PackageSet, far: PackageSet) -> tuple[Sequence[SetPlace], LastStep]:
        """Return places between two sets in single steps, and what leads from the last to far."""


@dataclass
class SetLine:
    """Places in an order, of which the first and the last are known to be unlike.

    Attributes:
        places: they. ways: tells how far they are apart. skip: takes what can't be worked out,
            and why. longest: how many single steps the line was seen to have.
    """

    places: list[SetPlace]
    ways: Ways
    skip: Callable[[str, str], object]
    longest: int = 0

    def find(
        self,
        judge: Callable[[PackageSet], Side | None],
        tell: Callable[[int], object] = lambda left: None,
    ) -> tuple[SetPlace, SetPlace]:
        """Return two places that differ, between which nothing more can be told apart.

        Args:
            judge: which end a set is like; None where it can't be told.
            tell: takes, before each question, how many may follow at most, it included.
        """
        near, far, misses = self.places[0], self.places[-1], 0
        while (place := self._next(near, far, misses)) is not None:
            tell(questions(self.length(near, far)))
            match judge(place.worked_out()):
                case "near":
                    near, misses = place, 0
                case "far":
                    far, misses = place, 0
                case None:
                    self._leave_out(place)
                    misses += 1
        far = self._first_like(near, far)
        self._take_apart(near, far)
        return near, far

    def _first_like(self, near: SetPlace, far: SetPlace) -> SetPlace:
        """Return the first place after another that is the same set as a later one."""
        inner = self.places[self.places.index(near) + 1 : self.places.index(far)]
        same = far.worked_out().digest
        return next((one for one in inner if one.packages and one.packages.digest == same), far)

    def length(self, near: SetPlace, far: SetPlace) -> int:
        """Return how many single steps lie between two places, as far as that is known."""
        total, before = 0, near
        first, last = self.places.index(near), self.places.index(far)
        for index in range(first + 1, last + 1):
            place = self.places[index]
            if place.origin is not None:
                total += 1
            elif place.packages is not None or place is far:
                total += self.ways.length(before.worked_out(), place.worked_out())
            else:
                continue
            before = place
        self.longest = max(self.longest, total)
        return total

    def _next(self, near: SetPlace, far: SetPlace, misses: int) -> SetPlace | None:
        """Return the place to ask for next; None where there is none.

        The middle, as nearly as spares a question. What can't be told lies in clusters: after such
        a place one is asked for that is far from it.
        """
        total = self.length(near, far)
        if total < 2:
            return None
        most = 2 ** (questions(total) - 1)
        low, high = total - most, most
        if misses:
            low = high = min(max(1, round(_share(misses) * total)), total - 1)
        before, after = near, far
        while True:
            first, last = self.places.index(before), self.places.index(after)
            if last - first > 1:
                place = self.places[(first + last) // 2]
                if not self._is_there(place):
                    continue
                way = self.length(near, place)
                if low <= way <= high:
                    return place
                before, after = (place, after) if way < low else (before, place)
            elif after.origin is None:
                self._take_apart(before, after)
                return self._next(near, far, misses)
            else:
                break
        inner = [place for place in (before, after) if place not in (near, far)]
        aim = (low + high) / 2
        return min(inner, key=lambda one: abs(self.length(near, one) - aim), default=None)

    def _is_there(self, place: SetPlace) -> bool:
        """Whether a place can be worked out; if not, it is left out."""
        try:
            place.worked_out()
        except NoSuchSet as error:
            self.skip(place.candidate.told, error.reason)
            self._leave_out(place)
            return False
        return True

    def _leave_out(self, place: SetPlace) -> None:
        """Remove a place; the step over it is a single one where both steps beside it were."""
        index = self.places.index(place)
        after = self.places[index + 1]
        if place.origin is None:
            after.origin = None
        after.lost = [*place.lost, place, *after.lost]
        self.places.remove(place)

    def _take_apart(self, near: SetPlace, far: SetPlace) -> None:
        """Put the places of single steps between two that follow each other."""
        if far.origin is not None:
            return
        inner, far.origin = self.ways.apart(near.worked_out(), far.worked_out())
        far.lost = []
        first, last = self.places.index(near) + 1, self.places.index(far)
        self.places[first:last] = inner  # sets that were there between are like one of the two


def _share(misses: int) -> float:
    """Return where to ask after so many misses: 1/4 of the way, 3/4, 1/8, 3/8, and so on."""
    parts = 1 << (misses + 1).bit_length()
    return (2 * (misses + 1) + 1 - parts) / parts
