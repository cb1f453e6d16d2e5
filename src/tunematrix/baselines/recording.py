"""Records of honest runs → bands; runs that can't be relied upon are refused, with the reason."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import Any

from tunematrix.baselines.figures import HELD, SAME_SEED
from tunematrix.baselines.interval import (
    LEAST_RUNS,
    margin_interval,
    tolerance_interval,
    widened,
)
from tunematrix.baselines.model import (
    Band,
    Baseline,
    CellBands,
    Hardware,
    MarginBands,
    RecordedRuns,
    ToleranceBands,
    conditions_of,
    place_of,
)
from tunematrix.errors import BadInput, NothingTested, counted
from tunematrix.results.record import Record

BLIND = 2.0
"""How many times the median a band may reach before that is told."""
_DIGITS = 6
"""Of a band's ends, which are rounded outward."""
_MOST_SAID = 8
"""Refusals that are told; the rest is counted."""


@dataclass(frozen=True)
class BandWish:
    """What is to be recorded.

    Attributes:
        bands: of which kind. environment: whose.
        cells: ids of those that are wanted, without seeds; None for all that ran.
    """

    bands: ToleranceBands | MarginBands
    environment: str
    cells: frozenset[str] | None = None

    @property
    def needs_seeds(self) -> bool:
        """Whether a stated share of runs is to be held, which few runs can't tell."""
        return isinstance(self.bands, ToleranceBands)


def measure(records: Iterable[Record], wish: BandWish) -> tuple[Baseline, ...]:
    """Return the bands that runs give, a baseline for each class of hardware.

    Cells that are known to fail, or that couldn't run here, have none.

    Raises:
        NothingTested: no cell was run that has figures.
        BadInput: some runs can't be relied upon; the text says which, and why.
    """
    groups: dict[Hardware, dict[str, list[Record]]] = {}
    for record in records:
        of_this = wish.cells is None or record.base_id in wish.cells
        if record.environment == wish.environment and not record.arms and of_this:
            cells = groups.setdefault(place_of(record), {})
            cells.setdefault(record.base_id, []).append(record)
    kept = {
        place: {cell: group for cell, group in cells.items() if any(map(_has_run, group))}
        for place, cells in groups.items()
    }
    if not any(kept.values()):
        raise NothingTested(f"no cell of {wish.environment} has run here; {_seeds_command(wish)}")
    _refuse(text for cells in kept.values() for cell in cells for text in _unfit(cells[cell], wish))
    found = [_baseline(place, cells, wish) for place, cells in kept.items() if cells]
    if not any(one.cells for one in found):
        text = f"the cells of these runs have no figure that a baseline holds: {', '.join(HELD)}"
        raise NothingTested(text)
    return tuple(one for one in found if one.cells)


def applied_cells(old: Baseline | None, new: Baseline) -> frozenset[str]:
    """Return the cells of new runs that the bands of an old baseline are applied to."""
    if old is None:
        return frozenset()
    return frozenset(
        cell
        for cell, own in new.cells.items()
        if (known := old.cells.get(cell)) is not None
        and known.spec == own.spec
        and not any(old.runs[known.runs].conditions.moved_to(new.runs[own.runs].conditions))
    )


def merged(old: Baseline | None, new: Baseline) -> Baseline:
    """Return a baseline with the cells of both; where both have one, with the new bands.

    Runs that no cell names any more are left out.
    """
    known = dict(old.runs) if old else {}
    cells = dict(old.cells) if old else {}
    for cell, own in new.cells.items():
        runs = new.runs[own.runs]
        name = _name(runs, known)
        known[name] = runs
        cells[cell] = own.model_copy(update={"runs": name})
    named = {own.runs for own in cells.values()}
    kept = {name: runs for name, runs in known.items() if name in named}
    cells = dict(sorted(cells.items()))
    return new.model_copy(
        update={"cells": cells, "runs": kept, "false_alarms": _false_alarms(cells, kept)}
    )


def blind(baseline: Baseline) -> Iterator[tuple[str, str]]:
    """Yield the cell and the metric of each band that would not notice a figure twice as large."""
    for cell, own in baseline.cells.items():
        for metric, band in own.bands.items():
            if band.varies and band.high > BLIND * band.median:
                yield cell, metric


def _baseline(place: Hardware, groups: Mapping[str, Sequence[Record]], wish: BandWish) -> Baseline:
    runs: dict[str, RecordedRuns] = {}
    cells: dict[str, CellBands] = {}
    for cell, group in sorted(groups.items()):
        bands = {name: _band(name, group, wish) for name in _held(group)}
        if not bands:
            continue
        own = _runs_of(group, wish)
        name = _name(own, runs)
        runs[name] = own
        cells[cell] = CellBands(runs=name, spec=group[0].spec_digest, bands=bands)
    return Baseline(
        environment=wish.environment,
        hardware=place.name,
        cores=place.cores,
        false_alarms=_false_alarms(cells, runs),
        runs=runs,
        cells=cells,
    )


def _runs_of(group: Sequence[Record], wish: BandWish) -> RecordedRuns:
    return RecordedRuns(
        recorded=max(record.date for record in group),
        commit=str(group[0].machine["commit"]),
        bands=wish.bands,
        at_least={name: HELD[name].share for name in _held(group)},
        same_seed=SAME_SEED,
        conditions=conditions_of(group[0]),
    )


def _name(own: RecordedRuns, known: Mapping[str, RecordedRuns]) -> str:
    """Return the name of the same runs among those known, or a new one: day and commit."""
    for name, one in known.items():
        if one == own:
            return name
    name, number = f"{own.recorded} {own.commit}", 1
    while name in known:
        number += 1
        name = f"{own.recorded} {own.commit} {number}"
    return name


def _band(metric: str, group: Sequence[Record], wish: BandWish) -> Band:
    held, figures = HELD[metric], _figures(metric, group)
    median = statistics.median(figures)
    if isinstance(wish.bands, ToleranceBands):
        interval = tolerance_interval(figures, wish.bands.coverage, wish.bands.confidence)
    else:
        interval = margin_interval(figures, wish.bands.share)
    interval = widened(interval, median, held.share, held.least)
    return Band(
        n=len(figures),
        low=_rounded(interval.low, ROUND_FLOOR),
        median=_rounded(median, ROUND_HALF_EVEN),
        high=_rounded(interval.high, ROUND_CEILING),
        unit=held.unit,
        varies=min(figures) < max(figures),
        **(_same(metric, group) if held.repeats else {}),
    )


def _same(metric: str, group: Iterable[Record]) -> dict[str, Any]:
    """Return the figure under the lowest seed, which is the one that most specs leave as it is."""
    by_seed = {record.seed: record.metrics[metric] for record in group if record.seed is not None}
    lowest = min(by_seed, default=None)
    return {} if lowest is None else {"seed": lowest, "same": by_seed[lowest]}


def _false_alarms(cells: Mapping[str, CellBands], runs: Mapping[str, RecordedRuns]) -> float:
    rates = (
        len(own.bands) * (1 - kind.coverage)
        for own in cells.values()
        if isinstance(kind := runs[own.runs].bands, ToleranceBands)
    )
    return round(sum(rates), 4)


def _unfit(group: Sequence[Record], wish: BandWish) -> Iterator[str]:
    """Yield why the runs of one cell can't be relied upon."""
    name, first = group[0].base_id, group[0]
    yield from _not_honest(group)
    seeds = {record.seed for record in group}
    if wish.needs_seeds and seeds == {None}:
        text = f"{name}: its runs have no seed of their own, so that nothing varies in them"
        yield f"{text}; run it with --seeds {LEAST_RUNS}, or record with --margin 0.25"
    elif wish.needs_seeds and len(seeds) < LEAST_RUNS:
        yield f"{name}: was run under {counted(len(seeds), 'seed')}; {LEAST_RUNS} are the least"
    elif len(seeds) < len(group) and seeds != {None}:
        seen = counted(len(seeds), "seed")
        yield f"{name}: {len(group)} runs have {seen}; give the records of one run"
    for record in group[1:]:
        if moved := _moved(first, record):
            yield f"{name}: its runs differ in {', '.join(moved)}; give those of one run"
            break
    for metric in {metric for record in group for metric in record.metrics if metric in HELD}:
        figures = _figures(metric, group)
        if len(figures) < len(group):
            yield f"{name}: {metric} was measured in {len(figures)} of {len(group)} runs"
        elif bad := next((one for one in figures if not math.isfinite(one)), None):
            yield f"{name}: {metric} of an honest run is {bad}; find out why first"


def _not_honest(group: Iterable[Record]) -> Iterator[str]:
    for record in group:
        name = record.cell_id
        if record.faults or record.planted:
            what = ", ".join([*record.faults, record.planted]).strip(", ")
            yield f"{name}: {what} was planted in it; run it without"
        elif record.outcome != "passed":
            yield f"{name}: {record.outcome}: {record.reason}"
        elif not record.spec_digest:
            yield f"{name}: its record doesn't say by which spec it ran; run it again"
        elif "commit" not in record.machine:
            yield f"{name}: its code has no commit that Git tells; run it in a repository"
        elif "changes" in record.machine:
            yield f"{name}: its code was not as committed; commit what is new, and run again"


def _moved(first: Record, other: Record) -> tuple[str, ...]:
    found = list(conditions_of(first).moved_to(conditions_of(other)))
    old, new = first.machine.get("commit"), other.machine.get("commit")
    found += [f"commit {old} → {new}"] if old != new else []
    found += ["the spec"] if first.spec_digest != other.spec_digest else []
    return tuple(found)


def _refuse(reasons: Iterable[str]) -> None:
    """Raise all reasons, if there is one.

    Raises:
        BadInput: there is.
    """
    lines = list(dict.fromkeys(reasons))
    if not lines:
        return
    more = len(lines) - _MOST_SAID
    shown = [*lines[:_MOST_SAID], f"and {more} more"] if more > 0 else lines
    raise BadInput("\n  ".join(["no baseline is recorded of these runs:", *shown]))


def _has_run(record: Record) -> bool:
    return record.outcome not in ("unavailable", "unsupported", "known_failure")


def _held(group: Sequence[Record]) -> list[str]:
    return [metric for metric in HELD if metric in group[0].metrics]


def _figures(metric: str, group: Iterable[Record]) -> list[float]:
    return [float(record.metrics[metric]) for record in group if metric in record.metrics]


def _seeds_command(wish: BandWish) -> str:
    return f"run: tunematrix baseline record -e {wish.environment} --seeds {LEAST_RUNS}"


def _rounded(figure: float, way: str) -> float:
    """Return a figure to a few digits: a baseline is read by people."""
    if not figure:
        return 0.0
    exact = Decimal(repr(figure))
    last = Decimal((0, (1,), exact.adjusted() - _DIGITS + 1))
    return float(exact.quantize(last, way))
