"""The table of regressions → links of the known faults that a change of releases may be."""

from __future__ import annotations

from collections.abc import Mapping

from packaging.version import Version

from tunematrix.matrix.groups import Groups
from tunematrix.proof.releases.table import read_rows
from tunematrix.versions.signature import Signature


def links_of(
    package: str,
    good: str,
    bad: str,
    signature: Signature,
    groups: Groups,
    have: Mapping[str, str],
) -> list[str]:
    """Return the links of rows that a change from a good release to a bad one may be.

    Args:
        package: whose releases those are. signature: how the bad one ends.
        groups: whose folders hold the table. have: versions of the environment, for sides that
            change nothing.
    """
    found = []
    for row, faulty, fixed in read_rows(groups):
        sides = (faulty.get(package, have.get(package)), (fixed or {}).get(package))
        other = have.get(package) if fixed == {} else sides[1]
        shows = str(row.expected) in (*signature.checks, signature.raised)
        if sides[0] and shows and _straddles(good, bad, sides[0], other):
            found.append(str(row.link))
    return list(dict.fromkeys(found))


def _straddles(good: str, bad: str, faulty: str, fixed: str | None) -> bool:
    """Whether a row's faulty release lies on the bad side of a change, its fixed on the good."""
    is_mended = Version(good) > Version(bad)
    if is_mended:
        below = Version(faulty) <= Version(bad)
        return below and (fixed is None or Version(fixed) >= Version(good))
    return Version(faulty) >= Version(bad)
