"""All baselines of an environment, read from the config folders of a project, and written there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tunematrix.baselines.files import read_file, write_file
from tunematrix.baselines.model import (
    Band,
    Baseline,
    Hardware,
    RecordedRuns,
    conditions_of,
    place_of,
)
from tunematrix.errors import BadInput
from tunematrix.paths import shown
from tunematrix.results.record import Record

FOLDER = "baselines"
_HEAD = """\
# What each figure of each cell is in honest runs: a run warns of what leaves its band.
# docs/baselines.md explains it. Written by: tunematrix baseline record -e {environment}
"""


@dataclass(frozen=True)
class AppliedBand:
    """A band as one record is held against it.

    Attributes:
        low, high: belong to it. band: as it is recorded.
        by_seed: whether the figure that was recorded under the record's own seed made it narrower.
    """

    low: float
    high: float
    band: Band
    by_seed: bool = False


@dataclass(frozen=True)
class Baselines:
    """All baselines of one environment, by the hardware that each is for.

    Attributes:
        strict: whether a figure that leaves its band fails its cell.
    """

    known: Mapping[Hardware, Baseline] = field(default_factory=dict)
    strict: bool = False

    def find(self, record: Record) -> Mapping[str, AppliedBand] | str:
        """Return the bands that a record can be held against, by metric; or why they don't apply.

        A cell that nobody has recorded has none.
        """
        place = place_of(record)
        baseline = self.known.get(place)
        if baseline is None:
            return f"no baseline for this hardware ({place})"
        own = baseline.cells.get(record.base_id)
        if own is None:
            return {}
        if own.spec != record.spec_digest:
            return "the spec has changed"
        runs = baseline.runs[own.runs]
        if moved := ", ".join(runs.conditions.moved_to(conditions_of(record))):
            return moved
        return {metric: _applied(band, runs, record) for metric, band in own.bands.items()}


def read_baselines(roots: Iterable[Path], environment: str, *, strict: bool = False) -> Baselines:
    """Read all baselines of an environment; those of later config folders stand first.

    Raises:
        BadInput: a file is malformed, or stands where it wasn't written; the text says which.
    """
    known: dict[Hardware, Baseline] = {}
    for root in roots:
        for path in sorted((root / FOLDER / environment).glob("*.yaml")):
            baseline = read_file(path, Baseline)
            expected = root / FOLDER / baseline.environment / baseline.place.file
            if path != expected:
                message = f"{shown(path)}: it is the baseline of {baseline.environment} on "
                message += f"{baseline.place}, and belongs in {shown(expected)}; move it there"
                raise BadInput(message)
            known[baseline.place] = baseline
    return Baselines(known, strict)


def write_baseline(baseline: Baseline, root: Path) -> Path:
    """Write a baseline where runs look for it, and return its file.

    Raises:
        MachineProblem: there is no room, or no right to write.
    """
    head = _HEAD.format(environment=baseline.environment)
    path = root / FOLDER / baseline.environment / baseline.place.file
    return write_file(
        path, head, baseline.model_dump(mode="json", exclude_defaults=True), dense=True
    )


def _applied(band: Band, runs: RecordedRuns, record: Record) -> AppliedBand:
    if band.same is None or band.seed is None or record.machine.get("seed") != band.seed:
        return AppliedBand(band.low, band.high, band)
    reach = runs.same_seed * abs(band.same)
    low, high = max(band.low, band.same - reach), min(band.high, band.same + reach)
    return AppliedBand(low, high, band, by_seed=(low, high) != (band.low, band.high))
