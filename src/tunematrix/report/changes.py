"""Records of a variant against those of its locked environment: what differs, as rows of text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tunematrix.results.record import Outcome, Record


@dataclass(frozen=True)
class Change:
    """One cell that doesn't end as it does under the lock.

    Attributes:
        cell_id: its id; before: its outcome under the lock, None where it has never run there.
        now: its outcome; reason: why.
    """

    cell_id: str
    before: Outcome | None
    now: Outcome
    reason: str


def changed_cells(records: Sequence[Record], locked: Iterable[Record]) -> tuple[Change, ...]:
    """Return the cells of `records` whose outcome isn't that of their newest locked record."""
    newest = {record.cell_id: record.outcome for record in locked}
    changes = (
        Change(one.cell_id, newest.get(one.cell_id), one.outcome, one.reason) for one in records
    )
    return tuple(change for change in changes if change.before != change.now)


def changed_versions(
    records: Iterable[Record], locked: Iterable[Record]
) -> Mapping[str, tuple[str, str]]:
    """Return the distributions whose versions differ: name to (locked, here); "–" for none."""
    here, there = (
        {name: version for record in side for name, version in record.versions.items()}
        for side in (records, locked)
    )
    names = sorted({*here, *there}) if here and there else []
    pairs = {name: (there.get(name, "–"), here.get(name, "–")) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def compared(records: Sequence[Record], locked: Sequence[Record], name: str) -> str:
    """Say in lines what differs from the locked environment called `name`."""
    if not locked:
        return f"nothing to compare with: {name} has no record here; run nox -s {name}"
    versions = changed_versions(records, locked)
    cells = changed_cells(records, locked)
    moved = ", ".join(f"{one} {old} → {new}" for one, (old, new) in versions.items())
    lines = [f"against {name}: {moved or 'the same versions'}"]
    lines += [
        f"  {one.cell_id}: {one.before or 'not run'} → {one.now} {one.reason}".rstrip()
        for one in cells
    ]
    same = len(records) - len(cells)
    return "\n".join([*lines, f"  {same} of {len(records)} cells end as they do in {name}"])
