"""The record: one cell, what became of it, and everything that determined it."""

from __future__ import annotations

import math
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, PlainValidator, TypeAdapter

from tunematrix.checks.verdict import Verdict
from tunematrix.matrix.cells import display_id
from tunematrix.spec.values import Given

SCHEMA_VERSION = 4

Outcome = Literal["passed", "failed", "known_failure", "unsupported", "unavailable", "error"]
Option: TypeAlias = str | tuple[str, ...]
"""The option of an axis; several where the arms of a relation differ in it."""


class CheckLine(BaseModel):
    """The types that a check has in JSON; a bound looks after its own."""

    model_config = ConfigDict(extra="forbid")

    name: str
    outcome: Literal["passed", "failed", "warned"]
    measured: float | str | None
    bound: Mapping[str, Any] | str | None
    unit: str
    message: str


def _read_verdict(data: object) -> Verdict:
    """Rebuild a check; its figure comes back as it was: a count whole, nan and inf as figures."""
    CheckLine.model_validate(data)
    assert isinstance(data, Mapping)
    try:
        verdict = Verdict.from_json(data)
        str(verdict.bound)  # which fails where a figure of it is none
    except (KeyError, TypeError) as error:
        raise ValueError(f"there is no such bound: {error}") from error
    return verdict


@dataclass(frozen=True)
class Record:
    """One line of results.jsonl.

    Attributes:
        run_id: shared by all cells of one run.
        cell_id: what the cell is called, seed and planted difference included.
        spec: file the claim stands in, relative to the project.
        axes: axis to option, of those that have an effect on its recipe; a relation has a tuple
            where its arms differ.
        reason: why the outcome is what it is, in a sentence; empty when it passed.
        link: where more is known, for declared and known failures.
        metrics: figure by name, units in the names.
        durations: seconds by phase, and "total".
        versions: distribution to version.
        machine: host, hardware, threads, seeds: what else determines the figures.
        run_dir: where the evidence lies, relative to the project.
        arms: of a relation, the ids of the cells it compares; a cell has none.
        base_id: as in the spec's matrix, e.g. "lora[cpu-hqq-int4]"; the same under any seed.
        spec_digest: of the spec as this cell was judged by; empty where it isn't known.
        backend: what computed.
        overrides: dotted key to value; empty for a relation, whose arms have their own records.
        seed: the seed it was put under; None where it ran as its spec says.
        planted: name of the fault or of the planted difference in it; empty where there is none.
        step: which step of a pipeline it is; None where it is the only one.
        faults: names of the faults entered in every cell of its run, as `--fault` takes them.
        losses: (step from 1, nats per token) as training logged them, thinned out; ascending.
        stderr: the last lines that it printed as errors; empty where it passed.
        planned: how many cells and relations its run was to run in its environment; 0 where that
            isn't known, and for what isn't run, such as what is unsupported.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    run_id: str
    cell_id: str
    spec: str
    environment: str
    axes: Mapping[str, Option]
    outcome: Outcome
    reason: str = ""
    link: str = ""
    checks: tuple[Annotated[Verdict, PlainValidator(_read_verdict)], ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    durations: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    run_dir: str = ""
    arms: tuple[str, ...] = ()
    base_id: str = ""
    spec_digest: str = ""
    backend: str = ""
    overrides: Mapping[str, Given] = field(default_factory=dict)
    seed: int | None = None
    planted: str = ""
    step: str | None = None
    faults: tuple[str, ...] = ()
    losses: tuple[tuple[int, float], ...] = ()
    stderr: str = ""
    planned: int = 0
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> dict[str, Any]:
        """Return plain data that any JSON encoder takes.

        nan and inf, which JSON lacks, become strings; lone surrogates, which UTF-8 lacks, are
        escaped.
        """
        return {item.name: _plain(getattr(self, item.name)) for item in fields(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Record:
        """Rebuild a record of this schema, nan and inf included.

        Raises:
            ValidationError: a field is missing, unknown or of another type.
        """
        return _adapter().validate_python(data)

    @property
    def is_bad(self) -> bool:
        """Whether it fails its run, whatever is required there."""
        return self.outcome in ("failed", "error")

    @property
    def failed_checks(self) -> tuple[Verdict, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.outcome == "failed")

    @property
    def honest_id(self) -> str:
        """The id of the same cell without what is planted in it."""
        return display_id(self.base_id, self.seed, "")

    @property
    def date(self) -> str:
        """The day of its run, YYYY-MM-DD; empty where the run's name doesn't begin with it."""
        day = self.run_id[:8]
        return f"{day[:4]}-{day[4:6]}-{day[6:]}" if len(day) == 8 and day.isdigit() else ""


@cache
def _adapter() -> TypeAdapter[Record]:
    return TypeAdapter(Record)


def shown_option(option: Option) -> str:
    """Return an option as people read it, several as `a|b`."""
    return option if isinstance(option, str) else "|".join(option)


def backend_of(axes: Mapping[str, Option]) -> str:
    """Return the backend among some axes; arms of a relation never differ in it."""
    return shown_option(axes.get("backend", ""))


def hardware_of(machine: Mapping[str, Any]) -> str:
    """Return what computed: the GPU, or the processor."""
    names = (machine.get(key) for key in ("gpu", "hardware", "architecture"))
    return str(next(filter(None, names), "unknown hardware"))


@cache
def machine() -> Mapping[str, Any]:
    """Describe this host without its name."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "hardware": _processor(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }


def _processor() -> str:
    """Name the processor as its maker does; empty where nothing tells."""
    if platform.system() == "Darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "")


def _plain(value: Any) -> Any:
    """Return what JSON has for a value; what has a form of its own there gives it."""
    # What is by far the most frequent stands first.
    if isinstance(value, str):
        is_plain = value.isascii()
        return value if is_plain else value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, int):
        return value
    if hasattr(value, "to_json"):
        return _plain(value.to_json())
    if isinstance(value, Mapping):
        return {_plain(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
