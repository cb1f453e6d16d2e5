"""How far measured values stayed from their bounds, over many runs of the same cells: pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from tunematrix.checks.bound import Bound
from tunematrix.matrix.cells import display_id
from tunematrix.results.record import Record


@dataclass(frozen=True)
class Margin:
    """A check's nearest approach to its bound.

    Attributes:
        check: its name; cell: where, with the seed.
        measured, bound, unit: of that run.
        slack: what was left, as a share of the bound (of half the range where there are two, of
            the figure where it has to be above); at most 1, below 0 where the check failed.
        runs: how many runs had a figure.
    """

    check: str
    cell: str
    measured: float
    bound: Bound
    unit: str
    slack: float
    runs: int


@dataclass(frozen=True)
class Soak:
    """What many runs of the same cells came to.

    Attributes:
        seeds: how many runs of each cell, at most; cells: how many cells; runs: all of them.
        changed: cell or relation to the seeds of each of its outcomes, where it has several.
        margins: the nearest approach of each check, the nearest first.
    """

    seeds: int
    cells: int
    runs: int
    changed: dict[str, dict[str, list[str]]]
    margins: tuple[Margin, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def soak(records: Iterable[Record]) -> Soak:
    """Fold the records of cells and relations that were run under several seeds, or their own."""
    by_cell: defaultdict[str, dict[str, Record]] = defaultdict(dict)
    every = [record for record in records if record.outcome != "unsupported"]
    seeded = any(record.seed is not None for record in every)
    for record in every:
        if not seeded or record.seed is not None:
            name = display_id(record.base_id, None, record.planted)
            by_cell[name]["" if record.seed is None else str(record.seed)] = record
    ran = [record for seeded in by_cell.values() for record in seeded.values()]
    return Soak(
        seeds=max((len(seeded) for seeded in by_cell.values()), default=0),
        cells=len(by_cell),
        runs=len(ran),
        changed={
            name: outcomes
            for name, seeded in by_cell.items()
            if len(outcomes := _outcomes(seeded)) > 1
        },
        margins=nearest_approaches(ran),
    )


def nearest_approaches(records: Sequence[Record]) -> tuple[Margin, ...]:
    """Return the nearest approach of each check that passed, or warned, to a numeric bound."""
    margins: defaultdict[str, list[Margin]] = defaultdict(list)
    for record in records:
        # What is known to fail has no margin to speak of.
        for check in record.checks if record.outcome != "known_failure" else ():
            bound, measured, left = check.bound, check.measured, check.slack
            if bound is not None and isinstance(measured, float) and left is not None:
                margin = Margin(check.name, record.cell_id, measured, bound, check.unit, left, 0)
                margins[check.name].append(margin)
    nearest = (min(of_one, key=lambda m: (m.slack, m.cell)) for of_one in margins.values())
    ordered = sorted(nearest, key=lambda margin: margin.slack)
    return tuple(replace(margin, runs=len(margins[margin.check])) for margin in ordered)


def _outcomes(seeded: dict[str, Record]) -> dict[str, list[str]]:
    seeds_of: defaultdict[str, list[str]] = defaultdict(list)
    for seed, record in sorted(seeded.items(), key=lambda entry: int(entry[0] or 0)):
        seeds_of[record.outcome].append(seed)
    return dict(seeds_of)
