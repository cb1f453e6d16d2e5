"""Records → the cells of a page: every figure and every text as it is shown."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias, get_args

from tunematrix.checks.bound import (
    Around,
    AtLeast,
    AtMost,
    Below,
    Between,
    Bound,
    Exactly,
    Measured,
    Near,
    is_figure,
)
from tunematrix.checks.verdict import Verdict
from tunematrix.evidence.figures import MemoryMeasure
from tunematrix.report.html.payload import (
    FIGURES,
    Band,
    PastPoint,
    Scale,
    ShownCell,
    ShownCheck,
    ShownMemory,
    ShownRun,
)
from tunematrix.report.rows import Run, agreements, claimed_gap, moment_of
from tunematrix.report.terminal import rounded
from tunematrix.report.text import one_line, printable
from tunematrix.results.record import Record, shown_option

DIGITS = 4
"""Significant digits of a figure."""
FAILED_DIGITS = 7
"""The same where a check failed, so that it never seems to hold its bound."""
Bands: TypeAlias = Callable[[Record], Mapping[str, Band]]
"""A record → what a baseline expects of its metrics; nothing where there is no baseline."""
Again: TypeAlias = Callable[[Record], str]
"""A record → the command that repeats it."""


def no_bands(record: Record) -> Mapping[str, Band]:
    """Return no band: there is no baseline."""
    return {}


def shown_run(run: Run, earlier: int) -> ShownRun:
    """Return a run as the page shows it."""
    return ShownRun(
        environment=one_line(run.environment),
        id=one_line(run.id),
        moment=moment_of(run.id),
        hardware=one_line(run.hardware),
        system=one_line(run.system),
        earlier=earlier,
        named=_texts(run.named_versions),
        versions=_texts(run.versions),
        machine=_texts({key: value for key, value in run.machine.items() if value is not None}),
        interrupted=run.interrupted,
    )


def shown_cell(
    record: Record, run: int, past: tuple[PastPoint, ...], again: Again, bands: Bands
) -> ShownCell:
    """Return a cell or a relation as the page shows it.

    Args:
        record: its own.
        run: position of its run in the page.
        past: how it came out earlier.
        again: gives the command that repeats it.
        bands: gives what a baseline expects.
    """
    durations = {one_line(name): value for name, value in _finite(record.durations).items()}
    durations.pop("total", None)
    return ShownCell(
        run=run,
        id=one_line(record.cell_id),
        outcome=record.outcome,
        reason=printable(record.reason),
        link=one_line(record.link),
        spec=one_line(record.spec),
        axes=axes_of(record),
        figures=figures_of(record),
        bands=dict(bands(record)),
        checks=tuple(map(shown_check, record.checks)),
        nearest=_nearest(record),
        memory=tuple(_memory(record)),
        losses=tuple((step, loss if math.isfinite(loss) else None) for step, loss in record.losses),
        floor=_finite(record.metrics).get("entropy_floor"),
        durations=durations,
        settings=_settings(record),
        arms=tuple(dict.fromkeys(map(one_line, record.arms))),
        past=past,
        again=one_line(again(record)),
        stderr=printable(record.stderr),
    )


def axes_of(record: Record) -> dict[str, str]:
    """Return axis to option, the backend among them."""
    options = {axis: shown_option(option) for axis, option in record.axes.items()}
    return _texts({"backend": record.backend, **options} if record.backend else options)


def figures_of(record: Record) -> dict[str, float]:
    """Return the figures that tables have columns for; a gap only where one is claimed."""
    known = _finite(record.metrics)
    if claimed_gap(record) is None:
        known.pop("gap_closed", None)
    return {figure.name: known[figure.name] for figure in FIGURES if figure.name in known}


def shown_check(check: Verdict) -> ShownCheck:
    """Return a check as the page shows it."""
    digits = FAILED_DIGITS if check.outcome == "failed" else DIGITS
    text, scale = shown_bound(check.bound, check.measured, digits)
    return ShownCheck(
        name=one_line(check.name),
        outcome=check.outcome,
        measured=_measured(check.measured, digits),
        bound=text,
        note=one_line(str(check.bound.note)) if check.bound is not None else "",
        unit=one_line(check.unit),
        message=printable(check.message),
        scale=scale,
        slack=check.slack,
    )


def shown_bound(
    bound: Bound | None, measured: Measured, digits: int = DIGITS
) -> tuple[str, Scale | None]:
    """Return a bound as text, and where it and a figure lie; no scale for words and counts."""
    if bound is None:
        return "", None
    value = measured if is_figure(measured) else None
    match rounded(bound, digits):
        case AtMost(limit=limit):
            text = f"≤ {limit:g}"
        case Below(limit=limit):
            text = f"< {limit:g}"
        case AtLeast(limit=limit):
            text = f"≥ {limit:g}"
        case Between(low=low, high=high):
            text = f"{low:g} to {high:g}"
        case Around(target=target, tolerance=tolerance):
            text = f"{target:g} ± {tolerance:g}"
        case Near(target=target, share=share):
            text = f"{target:g} ± {100 * share:g} %"
        case Exactly(value=due):
            text = str(due)
        case other:
            text = other.text
    return one_line(text), _scale(bound, value)


def _scale(bound: Bound, value: float | None) -> Scale | None:
    match bound:
        case AtMost(limit=limit) | Below(limit=limit):
            return Scale(value, None, limit)
        case AtLeast(limit=limit):
            return Scale(value, limit, None)
        case Between(low=low, high=high):
            return Scale(value, low, high)
        case Around(target=target, tolerance=margin):
            return Scale(value, target - margin, target + margin, target)
        case Near(target=target, share=share):
            margin = abs(target) * share
            return Scale(value, target - margin, target + margin, target)
        case _:
            return None


def _measured(measured: Measured, digits: int) -> str:
    if isinstance(measured, float):
        return f"{measured:.{digits}g}"
    return "nothing" if measured is None else one_line(str(measured))


def _nearest(record: Record) -> int | None:
    """Return which check of a relation comes nearest to its bound."""
    rows = agreements([record])
    nearest = rows[0].check if rows else None
    return None if nearest is None else record.checks.index(nearest)


def _memory(record: Record) -> Iterator[ShownMemory]:
    """Yield each kind of memory that was measured, against its bound, and bits against theory."""
    checks, known = {check.name: check for check in record.checks}, _finite(record.metrics)
    for measure in get_args(MemoryMeasure):
        value = known.get(f"{measure}_mb")
        if value is not None:
            check = checks.get(f"memory_{measure}")
            text, scale = shown_bound(check.bound if check else None, value)
            nowhere = Scale(value, None, None)
            yield ShownMemory(measure.replace("_", " "), "MB", scale or nowhere, text)
    if (bits := checks.get("stored_bits")) is not None:
        text, scale = shown_bound(bits.bound, bits.measured)
        if scale is not None:
            yield ShownMemory("stored bits", one_line(bits.unit), scale, text)


def _settings(record: Record) -> dict[str, str]:
    """Return what else determined a cell: seed, faults, overrides."""
    own = {
        "seed": record.seed,
        "step": record.step,
        "planted": record.planted or None,
        "faults": ", ".join(record.faults) or None,
        "spec digest": record.spec_digest or None,
        "evidence": record.run_dir or None,
    }
    return _texts({**{k: v for k, v in own.items() if v is not None}, **record.overrides})


def _texts(facts: Mapping[str, object]) -> dict[str, str]:
    return {one_line(str(name)): one_line(str(value)) for name, value in facts.items()}


def _finite(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if math.isfinite(value)}
