"""Evidence → what a record keeps of it: figures, seconds by phase, versions and machine."""

from __future__ import annotations

from typing import Any

from tunematrix.checks import loss, parity, resources
from tunematrix.evidence import Evidence
from tunematrix.evidence.events import Determinants, LogitError, Phase, Started
from tunematrix.results.record import machine

METRICS_MB = ("stored", "allocator_peak", "process_peak")


def metrics(evidence: Evidence) -> dict[str, float]:
    """Return the figures that views show and baselines will compare."""
    found: dict[str, float | None] = {"gap_closed": loss.measured_gap(evidence)}
    for measure in METRICS_MB:
        size = resources.memory_bytes(evidence, measure)
        found[f"{measure}_mb"] = None if size is None else size / resources.MEGABYTE
    found["tokens_per_second"] = resources.tokens_per_second(evidence)
    error = evidence.one(LogitError)
    found["logit_error"] = error.relative if error else None
    found["seconds"] = evidence.exit.seconds
    known = {name: figure for name, figure in found.items() if figure is not None}
    return known | parity.figures(evidence)


def durations(evidence: Evidence) -> dict[str, float]:
    """Return seconds by phase, and in total."""
    phases = {phase.name: phase.seconds for phase in evidence.all(Phase)}
    return {**phases, "total": evidence.exit.seconds}


def determinants(evidence: Evidence) -> dict[str, Any]:
    """Return versions and machine as the cell's own process reported them."""
    started, set_by_backend = evidence.one(Started), evidence.one(Determinants)
    return {
        "versions": started.versions if started else {},
        "machine": {
            **machine(),
            **(started.determinants if started else {}),
            **(set_by_backend.values if set_by_backend else {}),
            "isolation": evidence.exit.isolation,
            "memory_methods": resources.methods(evidence),
        },
    }
