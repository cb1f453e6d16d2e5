"""What checks warned of, in every view alike: a warning decides no cell, and is still read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tunematrix.errors import counted
from tunematrix.results.record import Record


def warnings_in(records: Iterable[Record]) -> Mapping[str, tuple[str, ...]]:
    """Map each warning, as `check: text`, to the ids of the cells that it is about."""
    found: dict[str, list[str]] = {}
    for record in records:
        for check in record.checks:
            if check.outcome == "warned":
                found.setdefault(f"{check.name}: {check.message}", []).append(record.cell_id)
    return {text: tuple(ids) for text, ids in found.items()}


def how_many(records: Iterable[Record]) -> str:
    """Return `2 warnings`; empty where there is none."""
    count = sum(map(len, warnings_in(records).values()))
    return counted(count, "warning") if count else ""
