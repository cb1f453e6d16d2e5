"""A run without its records: where it was, what it ran with, and how its cells ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tunematrix.results.record import Outcome


class OutcomeCount(NamedTuple):
    """How many cells of a run, or relations, came to an outcome on a machine, by its key."""

    is_relation: bool
    outcome: Outcome
    machine: bytes
    cells: int


@dataclass(frozen=True)
class RunLine:
    """One run of one environment on one machine, without its records.

    Attributes:
        environment, run_id: its own.
        machine, versions: as recorded by what ran; empty where nothing did.
        cells, relations: how many, by outcome.
    """

    environment: str
    run_id: str
    machine: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    cells: Counter[Outcome] = field(default_factory=Counter)
    relations: Counter[Outcome] = field(default_factory=Counter)

    def to_json(self) -> dict[str, Any]:
        """Return plain data that any JSON encoder takes."""
        return {**vars(self), "cells": dict(self.cells), "relations": dict(self.relations)}


def parted(
    run: str, environment: str, group: Sequence[OutcomeCount], machines: Mapping[bytes, Any]
) -> Iterator[RunLine]:
    """Part a run by the machines that bear its name; what never ran knows its machine by half.

    `machines` has (machine, versions) by key.
    """
    ran = [one for one in group if machines[one.machine][1]]
    found: dict[bytes, RunLine] = {}
    for one in ran:
        found.setdefault(one.machine, RunLine(environment, run, *machines[one.machine]))
    if not found:
        found[b""] = RunLine(environment, run)
    first = next(iter(found.values()))
    for one in group:
        line = found.get(one.machine, first)
        (line.relations if one.is_relation else line.cells)[one.outcome] += one.cells
    yield from found.values()
