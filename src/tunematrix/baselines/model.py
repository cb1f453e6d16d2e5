"""Baselines as their files hold them: bands of figures, and what they were measured on.

One file for each environment and class of hardware, `baselines/<environment>/<hardware>.yaml` in a
config folder of the project. A command writes it, people review it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Literal, NamedTuple, TypeAlias

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from tunematrix.baselines.files import minor, slug
from tunematrix.configuration.section import NonEmpty, Section
from tunematrix.results.record import Record, hardware_of

NAMED = (
    "torch", "transformers", "peft", "trl", "accelerate", "bitsandbytes", "hqq", "optimum-quanto",
    "torchao", "mlx", "mlx-lm",
)  # fmt: skip
"""The distributions whose versions figures depend on."""
Share = Annotated[float, Field(gt=0, lt=1)]


class Hardware(NamedTuple):
    """What a file of baselines is for: the GPU or the processor, and how many cores."""

    name: str
    cores: int

    def __str__(self) -> str:
        return f"{self.name}, {self.cores} cores"

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{slug(self.name)}-{self.cores}-cores.yaml"


class ToleranceBands(Section):
    """Bands that hold a stated share of honest runs (`coverage`), as surely as is stated."""

    kind: Literal["tolerance"]
    coverage: Share
    confidence: Share


class MarginBands(Section):
    """Bands of what was seen and a share of it more, at either end; they state no coverage."""

    kind: Literal["margin"]
    share: Annotated[float, Field(gt=0)]


BandKind: TypeAlias = Annotated[ToleranceBands | MarginBands, Field(discriminator="kind")]


class Conditions(Section):
    """What else figures depend on; under others, a band says nothing.

    Attributes:
        isolation: how cells were kept apart; capability: the vector instructions that were used.
        memory: how each measure of memory was read; versions: distribution to version.
    """

    isolation: str = ""
    capability: str = ""
    memory: Mapping[str, str] = Field(default_factory=dict)
    versions: Mapping[str, str] = Field(default_factory=dict)

    def moved_to(self, others: Conditions) -> Iterator[str]:
        """Yield what is otherwise there; nothing where no band depends on it."""
        for name in sorted(self.versions.keys() & others.versions.keys()):
            if minor(self.versions[name]) != minor(others.versions[name]):
                yield f"{name} {self.versions[name]} → {others.versions[name]}"
        for name in ("isolation", "capability"):
            mine, other = getattr(self, name), getattr(others, name)
            if mine != other:
                yield f"{name} {mine or 'unknown'} → {other or 'unknown'}"
        for name in sorted(self.memory.keys() & others.memory.keys()):
            if self.memory[name] != others.memory[name]:
                yield f"{name} read by {self.memory[name]} → {others.memory[name]}"


class RecordedRuns(Section):
    """The runs that some bands were measured on.

    Attributes:
        recorded: the day of the newest, YYYY-MM-DD; commit: of the code, which was as committed.
        bands: of which kind; at_least: share of the median that a band reaches to either side.
        same_seed: how far a run under the same seed may be from `Band.same`, as a share of it.
    """

    recorded: str
    commit: NonEmpty
    bands: BandKind
    at_least: Mapping[str, Annotated[float, Field(ge=0)]]
    same_seed: Annotated[float, Field(gt=0)]
    conditions: Conditions


class Band(Section):
    """What one figure of a cell is in honest runs.

    Attributes:
        n: runs that it was measured in. low, high: belong to the band.
        varies: whether it was not the same figure in all of them.
        seed: one that it was measured under; same: the figure then, which it is to be again.
    """

    n: int = Field(ge=1)
    low: float
    median: float
    high: float
    unit: str = ""
    varies: bool = True
    seed: int | None = None
    same: float | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Band:
        if not self.low <= self.median <= self.high:
            text = "low, median and high aren't in this order; record it again"
            raise PydanticCustomError("unordered", text)
        return self


class CellBands(Section):
    """The bands of one cell.

    Attributes:
        runs: name of the runs in `Baseline.runs`; spec: digest of the spec that it ran by.
    """

    runs: NonEmpty
    spec: NonEmpty
    bands: Mapping[str, Band]


class Baseline(Section):
    """All bands of one environment on one class of hardware.

    Attributes:
        false_alarms: how many a run of all these cells is to give at most, by the coverage of its
            bands; bands of margins aren't counted.
        runs: by name. cells: by id, without a seed.
    """

    environment: NonEmpty
    hardware: NonEmpty
    cores: int = Field(ge=0)
    false_alarms: Annotated[float, Field(ge=0)]
    runs: Mapping[str, RecordedRuns]
    cells: Mapping[str, CellBands]

    @model_validator(mode="after")
    def _named(self) -> Baseline:
        for cell, own in self.cells.items():
            if own.runs not in self.runs:
                context = {"route": ("cells", cell, "runs"), "name": own.runs}
                text = "there are no runs {name} in this file; record the cell again"
                raise PydanticCustomError("no_runs", text, context)
        return self

    @property
    def place(self) -> Hardware:
        """The hardware that it is for."""
        return Hardware(self.hardware, self.cores)

    def without(self, cells: Collection[str]) -> Baseline:
        """Return it without the bands of some cells; `false_alarms` stays, until it is merged."""
        kept = {cell: own for cell, own in self.cells.items() if cell not in cells}
        return self.model_copy(update={"cells": kept})


def place_of(record: Record) -> Hardware:
    """Return the class of hardware that a record was made on."""
    cores = record.machine.get("cpus") or record.machine.get("cores")
    return Hardware(hardware_of(record.machine), cores if isinstance(cores, int) else 0)


def conditions_of(record: Record) -> Conditions:
    """Return what a record's figures depend on, besides its hardware and its spec."""
    machine = record.machine
    memory = machine.get("memory_methods") or {}
    return Conditions(
        isolation=str(machine.get("isolation") or ""),
        capability=str(machine.get("cpu_capability") or ""),
        memory={str(name): str(method) for name, method in memory.items()},
        versions={name: record.versions[name] for name in NAMED if name in record.versions},
    )
