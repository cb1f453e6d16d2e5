"""Records to rows: pure, so that every view shows the same figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tunematrix.checks.verdict import Verdict
from tunematrix.results.record import Outcome, Record
from tunematrix.spec.relation import is_relations

SYMBOLS: dict[Outcome, str] = {
    "passed": "✓",
    "failed": "✗",
    "known_failure": "≈",
    "unsupported": "·",
    "unavailable": "?",
    "error": "!",
}

TRAINING = "sft"
"""The recipe that is told apart by its methods."""

SEVERITY: tuple[Outcome, ...] = (
    "error",
    "failed",
    "unavailable",
    "known_failure",
    "passed",
    "unsupported",
)
"""A square of the matrix holds several cells and shows its worst."""


@dataclass(frozen=True)
class Square:
    """All cells of one method and one quantizer.

    Attributes:
        outcome: the worst; counts: cells by outcome.
        seconds: the longest cell; peak_mb: largest growth of the process; gap: smallest share.
    """

    outcome: Outcome
    counts: dict[Outcome, int]
    seconds: float | None
    peak_mb: float | None
    gap: float | None


@dataclass(frozen=True)
class Matrix:
    """Quantizers down, methods across; absent pairs weren't planned."""

    methods: tuple[str, ...]
    quantizers: tuple[str, ...]
    squares: dict[tuple[str, str], Square]


@dataclass(frozen=True)
class Agreement:
    """One relation.

    Attributes:
        outcome: its outcome; id: its id.
        check: the one that comes nearest to its bound; None where nothing was compared.
        margin: how many times the measured difference the bound is; None where that has no sense.
    """

    outcome: Outcome
    id: str
    check: Verdict | None
    margin: float | None


def matrix(records: Sequence[Record]) -> Matrix:
    """Fold the records of cells into method × quantizer, in the order of first appearance.

    A recipe that trains nothing stands in the place of a method.
    """
    cells: dict[tuple[str, str], list[Record]] = {}
    for record in (record for record in records if not record.arms):
        column = "method" if record.axes.get("recipe", TRAINING) == TRAINING else "recipe"
        key = (record.axes.get(column, "-"), record.axes.get("quantizer", "-"))
        cells.setdefault(key, []).append(record)
    return Matrix(
        methods=tuple(dict.fromkeys(method for method, _ in cells)),
        quantizers=tuple(dict.fromkeys(quantizer for _, quantizer in cells)),
        squares={key: _square(group) for key, group in cells.items()},
    )


def counts(records: Iterable[Record]) -> dict[Outcome, int]:
    """Count records by outcome, worst first, zeros left out."""
    found = [record.outcome for record in records]
    return {outcome: found.count(outcome) for outcome in SEVERITY if outcome in found}


def reasons(
    records: Iterable[Record],
) -> tuple[tuple[tuple[Outcome, str, str], tuple[str, ...]], ...]:
    """Group what neither passed nor failed: (outcome, reason, link), and cell ids."""
    groups: dict[tuple[Outcome, str, str], list[str]] = {}
    for record in records:
        if record.outcome in ("unavailable", "known_failure", "unsupported"):
            key = (record.outcome, record.reason, record.link)
            groups.setdefault(key, []).append(record.cell_id)
    return tuple((key, tuple(ids)) for key, ids in groups.items())


def agreements(records: Sequence[Record]) -> tuple[Agreement, ...]:
    """Return a row for each relation, with the check that comes nearest to its tolerance."""
    return tuple(_agreement(record) for record in records if record.arms)


def claimed_gap(record: Record) -> float | None:
    """Return the share of the gap that a cell closed, if its spec claims any."""
    claimed = any(check.name == "gap_closed" for check in record.checks)
    return record.metrics.get("gap_closed") if claimed else None


def _agreement(record: Record) -> Agreement:
    def nearness(check: Verdict) -> tuple[bool, float]:
        margin = _margin(check)
        return check.outcome != "failed", math.inf if margin is None else margin

    compared = [check for check in record.checks if is_relations(check.name)]
    nearest = min(compared, key=nearness, default=None)
    margin = None if nearest is None else _margin(nearest)
    return Agreement(record.outcome, record.cell_id, nearest, margin)


def _margin(check: Verdict) -> float | None:
    below = check.bound.removeprefix("<= ")
    if below == check.bound or not isinstance(check.measured, float):
        return None
    return float(below) / check.measured if check.measured else math.inf


def _square(group: Sequence[Record]) -> Square:
    found = counts(group)
    return Square(
        outcome=next(iter(found)),
        counts=found,
        seconds=_extreme(max, group, "seconds"),
        peak_mb=_extreme(max, group, "process_peak_mb"),
        gap=_worst(min, [gap for one in group if (gap := claimed_gap(one)) is not None]),
    )


def _extreme(
    pick: Callable[[Iterable[float]], float], group: Sequence[Record], name: str
) -> float | None:
    return _worst(pick, [record.metrics[name] for record in group if name in record.metrics])


def _worst(pick: Callable[[Iterable[float]], float], values: Sequence[float]) -> float | None:
    # `min` and `max` may lose a nan, and nothing is worse than one.
    if any(math.isnan(value) for value in values):
        return math.nan
    return pick(values) if values else None
