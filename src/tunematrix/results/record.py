"""The record: one cell, what became of it, and everything that determined it."""

from __future__ import annotations

import math
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from tunematrix.checks.verdict import Verdict

SCHEMA_VERSION = 1
_NOT_FINITE = {str(figure): figure for figure in (math.nan, math.inf, -math.inf)}

Outcome = Literal["passed", "failed", "known_failure", "unsupported", "unavailable", "error"]


@dataclass(frozen=True)
class Record:
    """One line of results.jsonl.

    Attributes:
        run_id: shared by all cells of one run.
        cell_id: as in the spec's matrix, e.g. "lora[cpu-hqq-int4]".
        spec: file the claim stands in, relative to the project.
        axes: axis to option, all of them.
        reason: why the outcome is what it is, in a sentence; empty when it passed.
        link: where more is known, for declared and known failures.
        metrics: figure by name, units in the names.
        durations: seconds by phase, and "total".
        versions: distribution to version.
        machine: host, hardware, threads, seeds: what else determines the figures.
        run_dir: where the evidence lies, relative to the project.
        arms: of a relation, the ids of the cells it compares; a cell has none.
    """

    run_id: str
    cell_id: str
    spec: str
    environment: str
    axes: Mapping[str, str]
    outcome: Outcome
    reason: str = ""
    link: str = ""
    checks: tuple[Verdict, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    durations: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    run_dir: str = ""
    arms: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> dict[str, Any]:
        """Return plain data; nan and inf, which JSON lacks, become strings."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Record:
        """Rebuild a record, nan and inf included.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: a field is missing, unknown or of
                another type.
        """
        figures = {
            name: {key: float(figure) for key, figure in data[name].items()}
            for name in ("metrics", "durations")
        }
        checks = tuple(
            Verdict(**{**check, "measured": _NOT_FINITE.get(check["measured"], check["measured"])})
            for check in data["checks"]
        )
        arms = tuple(data.get("arms", ()))
        return cls(**{**data, **figures, "checks": checks, "arms": arms})

    @property
    def failed_checks(self) -> tuple[Verdict, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.outcome == "failed")


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
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
