"""Evidence → figures: what checks judge by, and what a record keeps of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

from tunematrix.evidence.events import (
    Determinants,
    Evaluation,
    LoggedStep,
    LogitError,
    Memory,
    Parity,
    Phase,
    Started,
    Storage,
    Throughput,
)
from tunematrix.evidence.evidence import Evidence

MEGABYTE = 1e6
"""Bytes."""
MOST_LOSSES = 100
"""Points of a curve that a record keeps."""
LAST_LINES = 20
"""Of what was printed as errors, kept in a record."""
LONGEST_TAIL = 4000
"""Characters of those lines."""
MemoryMeasure: TypeAlias = Literal["stored", "allocator_peak", "process_peak"]
"""The three ways in which memory is measured."""


def metrics(evidence: Evidence) -> dict[str, float]:
    """Return the figures that views show and baselines will compare, units in their names."""
    figures: dict[str, float | None] = {"gap_closed": gap_closed(evidence)}
    for measure in get_args(MemoryMeasure):
        size = memory_bytes(evidence, measure)
        figures[f"{measure}_mb"] = None if size is None else size / MEGABYTE
    figures["tokens_per_second"] = tokens_per_second(evidence)
    error = evidence.one(LogitError)
    figures["logit_error"] = error.relative if error else None
    figures["seconds"] = evidence.exit.seconds
    figures |= _losses(evidence)
    known = {name: figure for name, figure in figures.items() if figure is not None}
    return known | parity_values(evidence)


def durations(evidence: Evidence) -> dict[str, float]:
    """Return seconds by phase, and in total."""
    phases = {phase.name: phase.seconds for phase in evidence.all(Phase)}
    return {**phases, "total": evidence.exit.seconds}


def versions(evidence: Evidence) -> Mapping[str, str]:
    """Return distribution to version, as the cell's own process reported them."""
    started = evidence.one(Started)
    return started.versions if started else {}


def conditions(evidence: Evidence) -> dict[str, Any]:
    """Return what else determines the figures: threads, seeds, devices, how memory was read."""
    started, set_by_backend = evidence.one(Started), evidence.one(Determinants)
    return {
        **(started.determinants if started else {}),
        **(set_by_backend.values if set_by_backend else {}),
        "isolation": evidence.exit.isolation,
        "memory_methods": {memory.measure: memory.method for memory in evidence.all(Memory)},
    }


def logged_losses(evidence: Evidence) -> list[tuple[int, float]]:
    """Return (step from 1, nats per token) of each logged line that has a loss."""
    return [(s.step, s.loss) for s in evidence.all(LoggedStep) if s.loss is not None]


def loss_curve(evidence: Evidence) -> tuple[tuple[int, float], ...]:
    """Return the logged losses, evenly thinned out to `MOST_LOSSES`, the first and last among them.

    A step that was logged twice, as after a resumption, counts with its last loss.
    """
    points = sorted(dict(logged_losses(evidence)).items())
    if len(points) <= MOST_LOSSES:
        return tuple(points)
    last = len(points) - 1
    return tuple(points[round(n * last / (MOST_LOSSES - 1))] for n in range(MOST_LOSSES))


def last_lines(evidence: Evidence) -> str:
    """Return the end of what was printed as errors, which is masked already.

    A progress bar that was drawn over itself is there once, as a terminal shows it.
    """
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in evidence.stderr.split("\n"))
    shown = "\n".join(line for line in lines if line.strip()).splitlines()[-LAST_LINES:]
    return "\n".join(shown)[-LONGEST_TAIL:]


def evaluation(evidence: Evidence, when: str) -> Evaluation | None:
    """Return the last evaluation before or after training; None where there was none."""
    mine = [one for one in evidence.all(Evaluation) if one.when == when]
    return mine[-1] if mine else None


def gap_closed(evidence: Evidence) -> float | None:
    """Return (before - after) / (before - floor) of the held-out loss; None if not measured.

    No honest loss is at or below the floor; nan where one is, since there is no share then.
    """
    before, after = evaluation(evidence, "before"), evaluation(evidence, "after")
    if before is None or after is None:
        return None
    gap = before.loss - after.floor
    return (before.loss - after.loss) / gap if gap > 0 else math.nan


def memory_bytes(evidence: Evidence, measure: MemoryMeasure) -> int | None:
    """Return one memory measure in bytes, or None where it wasn't taken."""
    if measure == "stored":
        storage = evidence.one(Storage)
        return None if storage is None else storage.total_bytes
    taken = [memory for memory in evidence.all(Memory) if memory.measure == measure]
    return taken[-1].bytes if taken else None


def tokens_per_second(evidence: Evidence) -> float | None:
    """Return the speed of training, or None where it wasn't taken; nan if it took no time."""
    seen = evidence.one(Throughput)
    if seen is None:
        return None
    return seen.tokens / seen.seconds if seen.seconds > 0 else math.nan


def _losses(evidence: Evidence) -> dict[str, float | None]:
    """Return the held-out loss before and after, its floor, and the last logged one."""
    before, after = evaluation(evidence, "before"), evaluation(evidence, "after")
    logged = logged_losses(evidence)
    return {
        "heldout_loss_before": before.loss if before else None,
        "heldout_loss": after.loss if after else None,
        "entropy_floor": after.floor if after else None,
        "logged_loss": logged[-1][1] if logged else None,
    }


def parity_values(evidence: Evidence) -> dict[str, float]:
    """Return what records of several machines are compared by: gradient norms and losses."""
    return {
        f"parity_{parity.quantity}.{name}": value
        for parity in evidence.all(Parity)
        for name, value in parity.values.items()
    }
