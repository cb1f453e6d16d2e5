"""What is known of releases, and the table of regressions → faults that a change may bring."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from packaging.version import Version as Release

from tunematrix.environments.table import Environment
from tunematrix.matrix.groups import Groups
from tunematrix.proof.releases.table import Row, read_rows, read_tables
from tunematrix.versions.overlays import Pins
from tunematrix.versions.released_faults import ReleasedFault

BACKEND = "backend"
"""The axis of `when` by which a fault may be of other environments alone."""


def released_faults(groups: Groups, environment: Environment) -> tuple[ReleasedFault, ...]:
    """Return the faults that releases are known to have, those of other backends left out.

    Raises:
        BadInput: a table is malformed.
    """
    found = []
    for fault in (one for file in groups.releases for one in file.table.faults):
        backends = fault.when.get(BACKEND)
        if backends is None or {*backends} & {*environment.backends}:
            found.append(
                ReleasedFault(fault.link, fault.reason, fault.releases, checks=fault.checks)
            )
    # What stands there has the releases that are known; a row has seen two of them.
    links = {fault.link for file in groups.releases for fault in file.table.faults}
    rows = (row for _, table in read_tables(groups) for row in table.rows)
    found += [fault for row in rows if row.link not in links for fault in _of_row(row)]
    return tuple(found)


def links_of(
    package: str,
    good: str,
    bad: str,
    shows: Collection[str],
    groups: Groups,
    have: Mapping[str, str],
) -> list[str]:
    """Return the links of rows that a change from a good release to a bad one may be.

    Args:
        package: whose releases those are.
        shows: the checks that fail with the bad one alone, or what it raises, in which phase.
        groups: whose folders hold the table. have: versions of the environment, for sides that
            change nothing.
    """
    found = []
    for row, faulty, fixed in read_rows(groups):
        sides = (faulty.get(package, have.get(package)), (fixed or {}).get(package))
        other = have.get(package) if fixed == {} else sides[1]
        if sides[0] and str(row.expected) in shows and _straddles(good, bad, sides[0], other):
            found.append(str(row.link))
    return list(dict.fromkeys(found))


def _of_row(row: Row) -> Iterator[ReleasedFault]:
    """Yield a row as a fault; not where all that is known is that today's releases have it."""
    checks = (row.expected.check,) if row.expected.check else ()
    fixed = row.fixed or {}
    other = {name: version for name, version in row.faulty.items() if fixed.get(name) != version}
    if other:
        without = {name: fixed[name] for name in other if name in fixed}
        has, free = _alone(other, without) or (_exactly(other), _exactly(without))
        yield ReleasedFault(row.link, row.shows, has, free, checks)


def _alone(faulty: Pins, fixed: Pins) -> tuple[Mapping[str, str], Mapping[str, str]] | None:
    """Return the ranges with and without a fault, where one distribution alone decides.

    Releases between the two count as faulty if the fixed one is the later: none of them was seen
    without the fault.
    """
    if len(faulty) > 1 or not fixed:
        return None
    ((name, first),) = faulty.items()
    good = fixed[name]
    if Release(good) > Release(first):
        return {name: f">={first},<{good}"}, {name: f">={good}"}
    return {name: f"=={first}"}, {name: f"<={good}"}


def _exactly(pins: Pins) -> Mapping[str, str]:
    return {name: f"=={version}" for name, version in pins.items()}


def _straddles(good: str, bad: str, faulty: str, fixed: str | None) -> bool:
    """Whether a row's faulty release lies on the bad side of a change, its fixed on the good."""
    is_mended = Release(good) > Release(bad)
    if is_mended:
        below = Release(faulty) <= Release(bad)
        return below and (fixed is None or Release(fixed) >= Release(good))
    return Release(faulty) >= Release(bad)
