"""How far measured values stayed from their bounds, over many runs of the same cells: pure."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tunematrix.checks.verdict import Verdict
from tunematrix.matrix.seeds import SEED
from tunematrix.results.record import Record

_NUMBER = r"(-?[\d.]+(?:e[-+]?\d+)?)"
_FORMS = {
    "most": re.compile(rf"<= {_NUMBER}\b"),
    "least": re.compile(rf">= {_NUMBER}\b"),
    "range": re.compile(rf"{_NUMBER} to {_NUMBER}\b"),
    "percent": re.compile(rf"{_NUMBER} within {_NUMBER}%"),
    "around": re.compile(rf"{_NUMBER} within {_NUMBER}\b"),
}
"""How checks write their bounds."""


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
    bound: str
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
    """Fold the records of cells and relations that were run under several seeds."""
    by_cell: defaultdict[str, dict[str, Record]] = defaultdict(dict)
    for record in records:
        name, _, seed = record.cell_id.rpartition(SEED)
        if name and record.outcome != "unsupported":
            by_cell[name][seed] = record
    ran = [record for seeded in by_cell.values() for record in seeded.values()]
    return Soak(
        seeds=max((len(seeded) for seeded in by_cell.values()), default=0),
        cells=len(by_cell),
        runs=len(ran),
        changed={name: found for name, one in by_cell.items() if len(found := _outcomes(one)) > 1},
        margins=nearest(ran),
    )


def nearest(records: Sequence[Record]) -> tuple[Margin, ...]:
    """Return the nearest approach of each check that passed, or warned, to a numeric bound."""
    found: defaultdict[str, list[Margin]] = defaultdict(list)
    for record in records:
        # What is known to fail has no margin to speak of.
        for check in record.checks if record.outcome != "known_failure" else ():
            left = slack(check)
            if left is not None and isinstance(check.measured, float):
                figure = (check.measured, check.bound, check.unit)
                found[check.name].append(Margin(check.name, record.cell_id, *figure, left, 0))
    least = (min(rows, key=lambda one: (one.slack, one.cell)) for rows in found.values())
    ordered = sorted(least, key=lambda one: one.slack)
    return tuple(Margin(**{**asdict(one), "runs": len(found[one.check])}) for one in ordered)


def slack(check: Verdict) -> float | None:
    """Return what was left to a check's bound, as a share; None where there is no such figure.

    A count has none: it is the one that is due, or isn't.
    """
    value = check.measured
    if not isinstance(value, float) or not math.isfinite(value):
        return None
    for form, pattern in _FORMS.items():
        if found := pattern.match(check.bound):
            return _left(form, value, *map(float, found.groups()))
    return None


def _left(form: str, value: float, first: float, second: float = 0.0) -> float | None:
    if form == "range" and not first and value >= 0:
        form, first = "most", second  # errors, which nothing bounds from below
    if form == "range":
        half = (second - first) / 2
        return min(value - first, second - value) / half if half else None
    if form in ("around", "percent"):
        most = second * abs(first) / 100 if form == "percent" else second
        return 1 - abs(value - first) / most if most else None
    if not first:
        return None
    if form == "most":
        return (first - value) / abs(first)
    return (value - first) / max(abs(value), abs(first))


def _outcomes(seeded: dict[str, Record]) -> dict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for seed, record in seeded.items():
        found[record.outcome].append(seed)
    return dict(found)
