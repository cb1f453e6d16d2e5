"""A record against the baselines of its environment: which bands apply, and what left its band."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal

from tunematrix.baselines.figures import check_of
from tunematrix.baselines.kept import AppliedBand, Baselines
from tunematrix.checks.bound import Between
from tunematrix.checks.verdict import Verdict
from tunematrix.errors import counted
from tunematrix.results.outcome import reason
from tunematrix.results.record import Record


def band_of(record: Record, baselines: Baselines) -> Mapping[str, tuple[float, float]]:
    """Return the bands that apply to a record: metric to (low, high); empty where none do."""
    found = baselines.find(record)
    if isinstance(found, str):
        return {}
    return {metric: (one.low, one.high) for metric, one in found.items()}


def against(record: Record, baselines: Baselines) -> Record:
    """Return a record that passed with a verdict for each of its bands; others as they are.

    Of a strict baseline, one that left a band has failed.
    """
    found = baselines.find(record) if _is_held(record) else ""
    if isinstance(found, str):
        return record
    outcome: Literal["failed", "warned"] = "failed" if baselines.strict else "warned"
    verdicts = [_verdict(metric, one, record, outcome) for metric, one in found.items()]
    record = replace(record, checks=(*record.checks, *verdicts))
    failed = [verdict for verdict in verdicts if verdict.outcome == "failed"]
    return replace(record, outcome="failed", reason=reason(failed)) if failed else record


def unheld(records: Iterable[Record], baselines: Baselines) -> Mapping[str, int]:
    """Return why bands of cells that passed don't apply, and to how many cells; most first.

    Where an environment has no baseline at all, nobody asks for one.
    """
    if not baselines.known:
        return {}
    recorded = {cell for one in baselines.known.values() for cell in one.cells}
    cells = [record for record in records if record.base_id in recorded and _is_held(record)]
    found = Counter(why for record in cells if isinstance(why := baselines.find(record), str))
    return dict(found.most_common())


def _is_held(record: Record) -> bool:
    # One with a fault of `--fault` as well: whoever enters it wants to see what notices.
    return record.outcome == "passed" and not record.planted


def _verdict(
    metric: str, one: AppliedBand, record: Record, outcome: Literal["failed", "warned"]
) -> Verdict:
    figure, band = record.metrics.get(metric), one.band
    note = f"as under seed {band.seed} before" if one.by_seed else f"as in {counted(band.n, 'run')}"
    bound = Between(one.low, one.high, note=note)
    name = check_of(metric)
    if figure is not None and bound.holds(figure):
        return Verdict(name, "passed", figure, bound, band.unit, "")
    return Verdict(name, outcome, figure, bound, band.unit, _message(metric, record, one))


def _message(metric: str, record: Record, one: AppliedBand) -> str:
    figure, band = record.metrics.get(metric), one.band
    if figure is None:
        runs = counted(band.n, "run")
        return f"{metric} wasn't measured, and was in {runs}; its meter may not run any more"
    if not math.isfinite(figure):
        return f"{metric} is {figure}; training, or its meter, has broken"
    if one.by_seed and band.same is not None:
        what = f"what it was under seed {band.seed}"
        text = f"{metric} is {_away(figure, band.same)} {what}"
    else:
        text = f"{metric} is {_away(figure, band.median)} the median of {counted(band.n, 'run')}"
    update = f"tunematrix baseline update {shlex.quote(record.base_id)}"
    return f"{text}; find out what changed, or, if it is meant to: {update}"


def _away(figure: float, known: float) -> str:
    """Say how far a figure is from a known one, as a share."""
    share = abs(figure / known - 1) if known else math.inf
    side = "above" if figure > known else "below"
    return f"{share:.1%} {side}" if share < 1 else f"far {side}"
