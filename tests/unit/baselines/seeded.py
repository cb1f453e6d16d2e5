"""Records of cells under seeds, made of figures that real runs of the smoke cells gave.

`smoke_figures.json` holds them, by cell and metric: "first" under the seeds 0 to 19, and "again"
under the seeds from 0, of a second run of the same code on the same machine, busy with other work.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunematrix.baselines.interval import CONFIDENCE, COVERAGE
from tunematrix.baselines.kept import Baselines
from tunematrix.baselines.model import ToleranceBands
from tunematrix.baselines.recording import BandWish, measure
from tunematrix.matrix.cells import display_id
from tunematrix.results.record import Record

SMOKE: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]] = json.loads(
    Path(__file__).with_name("smoke_figures.json").read_text(encoding="utf-8")
)
CELL = "full[cpu-full-none]"
MACHINE = {
    "system": "Linux",
    "architecture": "x86_64",
    "hardware": "AMD EPYC",
    "cores": 2,
    "cpus": 2,
    "cpu_capability": "AVX2",
    "isolation": "forkserver",
    "memory_methods": {"process_peak": "VmHWM, cleared"},
    "commit": "0123456789ab",
}
VERSIONS = {"torch": "2.13.0+cpu", "transformers": "5.23.0", "peft": "0.21.2", "numpy": "2.4.6"}
TOLERANCE = ToleranceBands(kind="tolerance", coverage=COVERAGE, confidence=CONFIDENCE)


def one(cell: str = CELL, seed: int | None = 0, **fields: Any) -> Record:
    """A record of a cell, with the figures of its first run under this seed, or under 0."""
    metrics = {name: row["first"][seed or 0] for name, row in SMOKE[cell].items()}
    whole: dict[str, Any] = {
        "outcome": "passed",
        "metrics": metrics,
        "versions": VERSIONS,
        "machine": {**MACHINE, "seed": seed or 0},
        "base_id": cell,
        "seed": seed,
        "spec_digest": "abcdef0123456789",
        "backend": "cpu",
        **fields,
    }
    shown = display_id(cell, seed, "")
    return Record("20261129-101112-1a2f", shown, "a.yaml", "cpu", {"backend": "cpu"}, **whole)


def with_metrics(record: Record, **figures: float | None) -> Record:
    """A record with some figures replaced; None takes one away."""
    metrics = {k: v for k, v in {**record.metrics, **figures}.items() if v is not None}
    return Record.from_json({**record.to_json(), "metrics": metrics})


def seeds(cell: str = CELL, count: int = 20, **fields: Any) -> list[Record]:
    """Records of a cell under seeds."""
    return [one(cell, seed, **fields) for seed in range(count)]


def baselines(*cells: str, strict: bool = False) -> Baselines:
    """The baseline that the first runs of some cells give."""
    records = [record for cell in cells or (CELL,) for record in seeds(cell)]
    (found,) = measure(records, BandWish(TOLERANCE, "cpu"))
    return Baselines({found.place: found}, strict)
