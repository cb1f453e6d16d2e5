"""Records of a variant against those of its locked environment: what differs, as rows of text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tunematrix.report.past import differing
from tunematrix.report.text import one_line
from tunematrix.results.record import Outcome, Record
from tunematrix.results.store import newest_run


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
        Change(record.cell_id, newest.get(record.cell_id), record.outcome, record.reason)
        for record in records
    )
    return tuple(change for change in changes if change.before != change.now)


def changed_versions(
    records: Iterable[Record], locked: Iterable[Record]
) -> Mapping[str, tuple[str, str]] | None:
    """Return the distributions whose versions differ: name to (locked, here); "–" for none.

    None where either side has recorded no version.
    """
    here, there = (
        {name: version for record in side for name, version in record.versions.items()}
        for side in (records, locked)
    )
    if not here or not there:
        return None
    return {one.name: (one.before, one.after) for one in differing(there, here)}


def compared(records: Sequence[Record], locked: Sequence[Record], name: str) -> str:
    """Say in lines what differs from the locked environment called `name`."""
    if not locked:
        return f"nothing to compare with: {name} has no record here; run nox -s {name}"
    # What is declared unsupported is so under any versions, unless a probe has tried it.
    records = [record for record in records if record.outcome != "unsupported"]
    cells = changed_cells(records, locked)
    versions = changed_versions(records, newest_run(locked))
    if versions is None:
        moved = "versions weren't recorded"
    else:
        pairs = (f"{package} {old} → {new}" for package, (old, new) in versions.items())
        moved = one_line(", ".join(pairs)) or "the same versions"
    lines = [f"compared with {name}: {moved}"]
    lines += [
        "  " + one_line(f"{cell.cell_id}: {cell.before or 'not run'} → {cell.now} {cell.reason}")
        for cell in cells
    ]
    same = len(records) - len(cells)
    return "\n".join([*lines, f"  {same} of {len(records)} cells end as they do in {name}"])
