"""A run without its records: where it was, what it ran with, and how its cells ended."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from tunematrix.results.record import Outcome

HOST = ("system", "architecture", "hardware", "gpu", "python", "cores", "platform")
"""Of a machine, what is the same for all cells of a run."""
One = TypeVar("One")
Key = TypeVar("Key", bound=Hashable)


class OutcomeCount(NamedTuple):
    """How many cells of a run, or relations, came to an outcome on a machine, by its key."""

    is_relation: bool
    outcome: Outcome
    machine: bytes
    cells: int


@dataclass
class Tally:
    """How much of what a run planned is on record; it is filled record by record.

    A run that has less was interrupted, by whomever: a key, a limit of time, a machine that went
    down. What doesn't say how much was planned, as older records don't, leaves that open.

    Attributes:
        planned: cells and relations; 0 where nobody knows. ran: the ids of those on record.
    """

    planned: int = 0
    ran: set[str] = field(default_factory=set)

    def enter(self, cell_id: str, planned: int) -> None:
        """Take note of a record."""
        if planned > 0:
            self.planned = max(self.planned, planned)
            self.ran.add(cell_id)

    @property
    def interrupted(self) -> str:
        """How far an interrupted run came, in words; empty for any other."""
        if len(self.ran) >= self.planned:
            return ""
        return f"interrupted: {len(self.ran)} of {self.planned} ran"


@dataclass(frozen=True)
class RunLine:
    """One run of one environment on one machine, without its records.

    Attributes:
        environment, run_id: its own.
        machine, versions: as recorded by what ran, or else by what couldn't, which has no versions.
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


def host_of(machine: Mapping[str, Any]) -> str:
    """Return what tells a machine from another, as text."""
    return json.dumps({name: machine[name] for name in HOST if name in machine}, sort_keys=True)


def by_machine(
    group: Sequence[One], machine: Callable[[One], Key], has_run: Callable[[One], bool]
) -> dict[Key | None, list[One]]:
    """Part what bears the name of one run by its machines, in the order of first appearance.

    What never ran knows its machine by half, and goes to the first; where nothing ran, to None.
    """
    found: dict[Key | None, list[One]] = {machine(one): [] for one in group if has_run(one)}
    found = found or {None: []}
    first = next(iter(found))
    for one in group:
        key = machine(one)
        found[key if key in found else first].append(one)
    return found


def parted(
    run: str, environment: str, group: Sequence[OutcomeCount], machines: Mapping[bytes, Any]
) -> Iterator[RunLine]:
    """Part a run by the machines that bear its name.

    `machines` has (machine, versions) by key.
    """
    found = by_machine(group, lambda one: one.machine, lambda one: bool(machines[one.machine][1]))
    for key, mine in found.items():
        # Where nothing ran, the machine is known as far as that could be told.
        line = RunLine(environment, run, *machines[group[0].machine if key is None else key])
        for one in mine:
            (line.relations if one.is_relation else line.cells)[one.outcome] += one.cells
        yield line
