"""Runs held against each other: pairs of runs, and values that all engines have to agree on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from tunematrix.report.html.gathering import PARITY, ShownThread
from tunematrix.report.html.payload import (
    ComparedCell,
    ParityRow,
    ShownComparison,
    ShownMove,
)
from tunematrix.report.html.showing import figures_of
from tunematrix.report.past import compared
from tunematrix.report.rows import Run, moment_of
from tunematrix.report.text import one_line
from tunematrix.results.record import Outcome, Record, shown_option

MOST_PAIRS = 12
"""Of runs that are compared."""


def comparisons(threads: Sequence[ShownThread]) -> tuple[ShownComparison, ...]:
    """Compare each run with the one before it, and with those of the same environment elsewhere.

    Of two machines, the run that was made first stands first.
    """
    pairs: list[tuple[Run, int | None, int]] = [
        (thread.before, None, position)
        for position, thread in enumerate(threads)
        if thread.before is not None
    ]
    for pair in combinations(range(len(threads)), 2):
        one, other = sorted(pair, key=lambda place: _when(threads[place].newest))
        if threads[one].newest.environment == threads[other].newest.environment:
            pairs.append((threads[one].newest, one, other))
    return tuple(
        _compared(before, before_run, threads[after].newest, after)
        for before, before_run, after in pairs[:MOST_PAIRS]
    )


def parity(newest: Sequence[Run]) -> tuple[ParityRow, ...]:
    """Return each value that the recipe `parity` records, in all runs side by side."""
    values: dict[tuple[tuple[str, str], ...], dict[str, dict[int, float]]] = {}
    for position, run in enumerate(newest):
        for record in run.cells:
            shared = {name: value for name, value in record.metrics.items() if _is_parity(name)}
            for name, value in shared.items():
                values.setdefault(_group(record), {}).setdefault(name, {})[position] = value
    labels = _labels(list(values))
    return tuple(
        _parity_row(labels[group], name, each, len(newest))
        for group, names in values.items()
        for name, each in names.items()
    )


def _when(run: Run) -> tuple[str, str]:
    return run.date, run.time


def _compared(before: Run, before_run: int | None, after: Run, after_run: int) -> ShownComparison:
    found = compared(before.records, after.records)
    sides = [{record.cell_id: record for record in run.records} for run in (before, after)]
    flipped = [flip.cell_id for flip in found.flips]
    alike = [name for name in sides[1] if name in sides[0]]
    return ShownComparison(
        before=_called(before),
        after=_called(after),
        before_run=before_run,
        after_run=after_run,
        moves=tuple(ShownMove(*map(one_line, move)) for move in found.differences),
        same=found.same,
        cells=tuple(_cell(name, *sides) for name in dict.fromkeys([*flipped, *alike])),
    )


def _cell(name: str, before: Mapping[str, Record], after: Mapping[str, Record]) -> ComparedCell:
    old, new = before.get(name), after.get(name)
    here, there = ({} if one is None else figures_of(one) for one in (old, new))
    outcomes: tuple[Outcome | None, Outcome | None] = (
        None if old is None else old.outcome,
        None if new is None else new.outcome,
    )
    has_reason = new is not None and outcomes[0] != outcomes[1]
    return ComparedCell(
        id=one_line(name),
        outcomes=outcomes,
        reason=one_line(new.reason) if new is not None and has_reason else "",
        figures={key: (here[key], there[key]) for key in here if key in there},
    )


def _called(run: Run) -> str:
    moment = moment_of(run.id) or run.id
    return one_line(f"{run.environment} on {run.hardware}, {moment}")


def _is_parity(name: str) -> bool:
    return name.startswith(PARITY)


def _group(record: Record) -> tuple[tuple[str, str], ...]:
    """Return what has to be the same for values to be the same, whatever computes them."""
    options = {axis: shown_option(option) for axis, option in record.axes.items()}
    options.pop("backend", None)
    return tuple(sorted(options.items()))


def _labels(
    groups: Sequence[tuple[tuple[str, str], ...]],
) -> Mapping[tuple[tuple[str, str], ...], str]:
    """Name groups by the options in which they differ."""
    common = set(groups[0]).intersection(*groups) if groups else set()
    return {
        group: one_line(" ".join(option for axis, option in group if (axis, option) not in common))
        for group in groups
    }


def _parity_row(group: str, name: str, each: Mapping[int, float], runs: int) -> ParityRow:
    values = tuple(each.get(position) for position in range(runs))
    return ParityRow(group, one_line(name.removeprefix(PARITY)), values, _spread(values))


def _spread(values: Sequence[float | None]) -> float | None:
    known = list(_known(values))
    largest = max(map(abs, known), default=0.0)
    return (max(known) - min(known)) / largest if len(known) > 1 and largest else None


def _known(values: Sequence[float | None]) -> Iterator[float]:
    return (value for value in values if value is not None and math.isfinite(value))
