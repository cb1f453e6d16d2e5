"""A record against the baselines of its environment: which bands apply, and what left its band."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal

from tunematrix.baselines.figures import check_of
from tunematrix.baselines.kept import Baselines
from tunematrix.baselines.model import Band
from tunematrix.checks.bound import Between
from tunematrix.checks.verdict import Verdict
from tunematrix.results.outcome import reason
from tunematrix.results.record import Record


def band_of(record: Record, baselines: Baselines) -> Mapping[str, tuple[float, float]]:
    """Return the bands that apply to a record: metric to (low, high); empty where none do."""
    found = baselines.find(record)
    if isinstance(found, str):
        return {}
    return {metric: (band.low, band.high) for metric, band in found.bands.items()}


def against(record: Record, baselines: Baselines) -> Record:
    """Return a record that passed with a verdict for each of its bands; others as they are.

    Of a strict baseline, one that left a band has failed.
    """
    found = baselines.find(record) if _is_honest(record) else ""
    if isinstance(found, str):
        return record
    outcome: Literal["failed", "warned"] = "failed" if baselines.strict else "warned"
    verdicts = [_verdict(metric, band, record, outcome) for metric, band in found.bands.items()]
    record = replace(record, checks=(*record.checks, *verdicts))
    failed = [verdict for verdict in verdicts if verdict.outcome == "failed"]
    return replace(record, outcome="failed", reason=reason(failed)) if failed else record


def unheld(records: Iterable[Record], baselines: Baselines) -> Mapping[str, int]:
    """Return why cells that passed could not be held, and how many each; most first.

    Where an environment has no baseline at all, nobody asks for one.
    """
    if not baselines.known:
        return {}
    cells = [record for record in records if not record.arms and _is_honest(record)]
    found = Counter(why for record in cells if isinstance(why := baselines.find(record), str))
    return dict(found.most_common())


def _is_honest(record: Record) -> bool:
    return record.outcome == "passed" and not record.faults and not record.planted


def _verdict(
    metric: str, band: Band, record: Record, outcome: Literal["failed", "warned"]
) -> Verdict:
    figure = record.metrics.get(metric)
    bound = Between(band.low, band.high, note=f"as in {band.n} runs")
    name = check_of(metric)
    if figure is not None and bound.holds(figure):
        return Verdict(name, "passed", figure, bound, band.unit, "")
    return Verdict(name, outcome, figure, bound, band.unit, _message(metric, figure, band))


def _message(metric: str, figure: float | None, band: Band) -> str:
    if figure is None:
        return f"{metric} wasn't measured, and was in {band.n} runs; its meter may not run any more"
    if not math.isfinite(figure):
        return f"{metric} is {figure}; training, or its meter, has broken"
    away = abs(figure / band.median - 1) if band.median else math.inf
    side = "above" if figure > band.median else "below"
    text = (
        f"{metric} is {f'{away:.0%} ' if away < 10 else 'far '}{side} the median of {band.n} runs"
    )
    return f"{text}; find out what changed, or, if it is meant to: tunematrix baseline update"
