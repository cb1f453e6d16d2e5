"""What a run's figures say beside its outcomes: which left their bands, which cells are flaky."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tunematrix.baselines.figures import HELD, check_of
from tunematrix.baselines.holding import unheld
from tunematrix.baselines.kept import Baselines
from tunematrix.checks.verdict import Verdict
from tunematrix.report.past import Flake, flake
from tunematrix.report.text import one_line
from tunematrix.results.record import Record, hardware_of
from tunematrix.results.store import Store

VALUES = 5
"""Earlier figures that are shown before one that left its band."""
MOST = 6
"""Lines of drift, and of flaky cells, at the end of a run."""
MOST_REASONS = 3
"""Reasons that are told why cells were not held."""


@dataclass(frozen=True)
class Drift:
    """A figure that left its band.

    Attributes:
        cell: its id; metric: the figure's name; verdict: with the figure and its band.
        earlier: the same figure in the runs before, oldest first.
    """

    cell: str
    metric: str
    verdict: Verdict
    earlier: tuple[float, ...]


def drifts(records: Iterable[Record], earlier: Mapping[str, Sequence[Record]]) -> Iterator[Drift]:
    """Yield each figure that left its band.

    Args:
        records: of one run. earlier: those that their cells have of runs before, by id.
    """
    metrics = {check_of(metric): metric for metric in HELD}
    for record in records:
        before = [one for one in earlier.get(record.cell_id, ()) if _is_comparable(one, record)]
        for verdict in record.checks:
            metric = metrics.get(verdict.name)
            if metric is not None and verdict.outcome != "passed":
                values = [one.metrics[metric] for one in before if metric in one.metrics]
                yield Drift(record.cell_id, metric, verdict, tuple(values))


def flaky(records: Iterable[Record], earlier: Mapping[str, Sequence[Record]]) -> Iterator[Flake]:
    """Yield each cell that ended otherwise than the time before, with nothing changed."""
    for record in records:
        before = [one for one in earlier.get(record.cell_id, ()) if _is_comparable(one, record)]
        if before and (found := flake(before[-1], record)):
            yield found


def notes(records: Sequence[Record], store: Store, baselines: Baselines) -> Iterator[str]:
    """Yield what is worth a line at the end of a run: drift, flaky cells, and what wasn't held.

    Raises:
        BadInput: the records of earlier runs can't be read.
    """
    cells = [record for record in records if not record.arms]
    if not cells:
        return
    run = cells[0].run_id
    left = {one.cell for one in drifts(cells, {})}
    found = drifts(cells, store.earlier(left, run, VALUES) if left else {})
    yield from _first([_drift_line(one) for one in found], "figures left their bands")
    flipped = flaky(cells, store.earlier({record.cell_id for record in cells}, run))
    yield from _first([_flake_line(one) for one in flipped], "cells are flaky")
    reasons = [f"{count} × {why}" for why, count in unheld(cells, baselines).items()]
    if reasons:
        why = one_line("; ".join(reasons[:MOST_REASONS]))
        environment = cells[0].environment
        advice = f"tunematrix baseline record -e {environment} --seeds 20"
        yield f"cells not held against a baseline: {why}; to record: {advice}"


def _is_comparable(before: Record, record: Record) -> bool:
    """Whether an earlier record is of the same kind of machine, and without faults."""
    same_hardware = hardware_of(before.machine) == hardware_of(record.machine)
    return same_hardware and not before.faults


def _drift_line(one: Drift) -> str:
    verdict = one.verdict
    values = " ".join(_short(figure) for figure in one.earlier)
    now = _short(verdict.measured) if isinstance(verdict.measured, float) else "not measured"
    unit = f" {verdict.unit}" if verdict.unit else ""
    arrow = f"{values} → " if values else ""
    band = f"band {verdict.bound}" if verdict.bound else ""
    return one_line(f"drift: {one.cell} {one.metric} {arrow}{now}{unit}, {band}")


def _flake_line(one: Flake) -> str:
    before, after = one.before, one.after
    text = f"flaky: {after.cell_id} {after.outcome}, and {before.outcome} in run {before.run_id}"
    return one_line(f"{text}, with nothing changed that is on record")


def _first(lines: Sequence[str], what: str) -> Iterator[str]:
    yield from lines[:MOST]
    if len(lines) > MOST:
        yield f"and {len(lines) - MOST} more {what}"


def _short(figure: float) -> str:
    return f"{figure:.4g}" if math.isfinite(figure) else str(figure)
