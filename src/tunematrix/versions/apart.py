"""Two sets of packages → how what differs between them can be moved apart, in as small steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from tunematrix.versions.between import differing, passed, ranges
from tunematrix.versions.index import Index
from tunematrix.versions.overlays import LEADING
from tunematrix.versions.resolving import NoSuchSet, Wanted, solve
from tunematrix.versions.sets import Beneath, PackageSet

AT_ONCE = 4
"""Resolutions that run beside each other; most of their time is a wait for an index."""
Given = TypeVar("Given")
Made = TypeVar("Made")


@dataclass(frozen=True)
class MovingGroup:
    """A package that moves from one set to another, and those that it can't move without.

    Attributes:
        name: of the package. moved: names of all of them, its own included.
        weight: how many of its releases may be the one.
    """

    name: str
    moved: frozenset[str]
    weight: int = 1


@dataclass(frozen=True)
class SetStep:
    """Two sets, and the groups of packages that lead from one to the other.

    Attributes:
        near, far: the sets. groups: all of them lead from `near` to `far`; one that others are
            part of comes after these.
    """

    near: PackageSet
    far: PackageSet
    groups: tuple[MovingGroup, ...]

    def moved(self, some: Sequence[MovingGroup]) -> PackageSet:
        """Return the near set with some groups moved.

        It fits together: each requirement is met in the near set, in the far one, or in that of
        the group alone, and both its sides are as they are there.
        """
        if len(some) == len(self.groups):
            return self.far
        names = frozenset[str]().union(*(one.moved for one in some))
        moved = {name: v for name, v in self.far.versions.items() if name in names}
        told = ", ".join(f"{one.name} {moved[one.name]}" for one in some)
        return self.near.with_versions(moved, told)


def step(
    names: Iterable[str], near: PackageSet, far: PackageSet, index: Index, below: Beneath
) -> SetStep:
    """Return how some packages that differ between two sets can be moved apart.

    Raises:
        MachineProblem: there is no uv, or an index can't be reached.
    """
    moving = sorted({*names} & {*differing(near, far)} & {*far.versions}, key=ranked(below.roots))
    if len(moving) < 2:
        found = [frozenset(moving)] if moving else []
    else:
        there = [name for name in moving if name in near.versions]
        found = [one for one in at_once(_carrier(near, far, below), there) if one]
        # What only comes with another makes no difference alone.
        new = {*moving} - {*there} - frozenset().union(*found)
        found += [frozenset([name]) for name in sorted(new, key=ranked(below.roots))]
    return SetStep(near, far, tuple(_groups(found, moving, near, far, index)))


def _carrier(
    near: PackageSet, far: PackageSet, below: Beneath
) -> Callable[[str], frozenset[str] | None]:
    """Return what tells, of a package, all that move with it; None where it can't move alone."""
    bounds = ranges(near, far)
    there = tuple(name for name in differing(near, far) if name in near.versions)

    def carried(name: str) -> frozenset[str] | None:
        names = frozenset([name])
        for _ in range(2):  # what it brings may first come in a version between the two
            pins = {one: f"=={far.versions[one]}" for one in names}
            # What only the near set has asks for what it needs, too.
            wanted = Wanted({**bounds, **pins}, preferred=near, roots=(*there, *names))
            try:
                found = solve(wanted, below, name).versions
            except NoSuchSet:
                return None
            names = frozenset(n for n, v in found.items() if near.versions.get(n) != v)
            if not names <= {*far.versions}:
                return None
            if all(found[one] == far.versions[one] for one in names):
                return names
        return None

    return carried


def _groups(
    found: Iterable[frozenset[str]],
    moving: Sequence[str],
    near: PackageSet,
    far: PackageSet,
    index: Index,
) -> Iterable[MovingGroup]:
    """Yield groups of names, the smallest first, each with something that none before has."""
    rank = {name: number for number, name in enumerate(moving)}
    done: set[str] = set()
    rest = frozenset(moving) - frozenset[str]().union(*found)
    for names in [*sorted(found, key=len), *([rest] if rest else [])]:
        if own := names & {*moving} - done:
            name = min(own, key=lambda one: rank[one])
            done |= names
            yield MovingGroup(name, names, max(1, len(passed(name, near, far, index))))


def ranked(roots: Sequence[str]) -> Callable[[str], tuple[int, str]]:
    """Return what orders names of packages: the likeliest to blame first."""

    def key(name: str) -> tuple[int, str]:
        if name in LEADING:
            return LEADING.index(name), name
        return len(LEADING) + (name not in roots), name

    return key


def at_once(make: Callable[[Given], Made], given: Iterable[Given]) -> list[Made]:
    """Return what is made of each, several beside each other."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(make, given))
