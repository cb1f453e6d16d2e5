"""Two sets of packages → the sets between them, by the days of releases or by their numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from functools import cache

from packaging.version import InvalidVersion, Version

from tunematrix.versions.asked import Asked, OnDay
from tunematrix.versions.index import Index, Release
from tunematrix.versions.resolving import Wanted, moment, solve
from tunematrix.versions.sets import Beneath, PackageSet


@dataclass(frozen=True)
class End:
    """One end of what is bisected.

    Attributes:
        asked: how it was asked for. packages: the set that this is.
    """

    asked: Asked
    packages: PackageSet


@dataclass(frozen=True)
class Candidate:
    """A set that may be tried.

    Attributes:
        told: what it is, for messages.
        resolve: returns it; raises NoSuchSet where nothing fits together so.
    """

    told: str
    resolve: Callable[[], PackageSet]


def differing(one: PackageSet, other: PackageSet) -> list[str]:
    """Return the names of packages that two sets have in different versions, sorted."""
    names = {*one.versions, *other.versions}
    return sorted(n for n in names if one.versions.get(n) != other.versions.get(n))


def moments(older: End, newer: End, index: Index) -> dict[datetime, list[str]]:
    """Return when something was released that could have come into a set between two, and what.

    Ascending; empty where the indexes don't say when anything was published.

    Raises:
        MachineProblem: an index can't be reached.
    """
    names = differing(older.packages, newer.packages)
    index.ask_for(names)
    since, until = (when(end, names, index) for end in (older, newer))
    found = defaultdict[datetime, list[str]](list)
    for name in names:
        for release in within(name, older.packages, newer.packages, index):
            if release.published and since and until and since < release.published < until:
                found[release.published].append(f"{name} {release.version}")
    return dict(sorted(found.items()))


def when(end: End, names: Iterable[str], index: Index) -> datetime | None:
    """Return the moment by which all of a set was published, as far as some names tell."""
    if isinstance(end.asked, OnDay):
        return datetime.combine(end.asked.day, time(23, 59, 59), tzinfo=UTC)
    versions = end.packages.versions
    found = [
        release.published
        for name in names
        for release in index.releases(name)
        if release.published is not None and str(release.version) == versions.get(name)
    ]
    return max(found, default=None)


def within(name: str, one: PackageSet, other: PackageSet, index: Index) -> list[Release]:
    """Return the releases of a package from its version in one set to that in another, ascending.

    Where one set hasn't got it, all up to the version of the other count.
    """
    ends = sorted(_versions(name, one, other))
    if not ends:
        return []
    least = ends[0] if len(ends) > 1 else Version("0")
    return [release for release in index.releases(name) if least <= release.version <= ends[-1]]


def passed(name: str, near: PackageSet, far: PackageSet, index: Index) -> list[str]:
    """Return the versions that a package passes from one set to another, the second's the last.

    What is new in the second set, or has a version there that no index knows, passes that alone.
    """
    begin, end = near.versions.get(name), far.versions.get(name)
    if begin is None or end is None or begin == end:
        return [end] if end is not None and begin is None else []
    found = [str(release.version) for release in within(name, near, far, index)]
    if found and Version(begin) > Version(end):
        found.reverse()
    return [*(version for version in found if version not in (begin, end)), end]


def at_moments(
    times: Mapping[datetime, Sequence[str]], older: End, newer: End, below: Beneath
) -> list[Candidate]:
    """Return what an installer would have chosen at each moment, between two sets' versions."""
    bounds = ranges(older.packages, newer.packages)

    def at(time: datetime) -> Candidate:
        text = f"{time:%Y-%m-%d %H:%M} ({', '.join(times[time])})"
        wanted = Wanted(bounds=bounds, before=moment(time))
        return Candidate(text, cache(lambda: solve(wanted, below, text)))

    return [at(time) for time in times]


def at_versions(
    pins: Mapping[str, str], over: PackageSet, bounds: Mapping[str, str], below: Beneath
) -> Candidate:
    """Return the set that has some releases of packages, and else another set's versions.

    Args:
        pins: the releases. over: the set whose versions are kept wherever they fit.
        bounds: what others may come to, where they don't.
    """
    told = ", ".join(f"{n} {v}" for n, v in pins.items())
    bounds = {**bounds, **{n: f"=={v}" for n, v in pins.items()}}
    wanted = Wanted(bounds=bounds, preferred=over, roots=tuple(pins))
    return Candidate(told, cache(lambda: solve(wanted, below, told)))


def ranges(one: PackageSet, other: PackageSet) -> dict[str, str]:
    """Return the ranges that packages move in from one set to another, of those in both."""
    ends = {name: sorted(_versions(name, one, other)) for name in differing(one, other)}
    return {name: f">={pair[0]},<={pair[1]}" for name, pair in ends.items() if len(pair) > 1}


def _versions(name: str, *sets: PackageSet) -> list[Version]:
    found = []
    for packages in sets:
        if name in packages.versions:
            try:
                found.append(Version(packages.versions[name]))
            except InvalidVersion:  # conda has others
                return []
    return found
