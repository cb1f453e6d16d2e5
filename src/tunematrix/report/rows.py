"""Records to rows: pure, so that every view shows the same figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tunematrix.checks.verdict import Verdict
from tunematrix.results.record import Option, Outcome, Record, hardware_of, shown_option
from tunematrix.results.run_line import Tally, by_machine, host_of
from tunematrix.spec.relation import is_relations

SYMBOLS: dict[Outcome, str] = {
    "passed": "✓",
    "failed": "✗",
    "known_failure": "≈",
    "unsupported": "·",
    "unavailable": "?",
    "error": "!",
}

SEVERITY: tuple[Outcome, ...] = (
    "error",
    "failed",
    "unavailable",
    "known_failure",
    "passed",
    "unsupported",
)
"""A square of the matrix holds several cells and shows its worst."""

_COUNTABLE: tuple[Outcome, ...] = ("error", "known_failure")
"""Outcomes that are nouns, so that several have an s."""

BAD: tuple[Outcome, ...] = ("error", "failed")
NAMED = ("torch", "transformers", "peft", "trl", "bitsandbytes", "mlx", "mlx-lm")
"""The versions that a reader looks for first; records hold all of them."""
ABSENT = "-"
"""Stands for an axis that a record doesn't have."""


def in_words(outcome: Outcome, count: int = 1) -> str:
    """Return an outcome as people say it, of so many cells: passed, known failures."""
    several = "s" if count > 1 and outcome in _COUNTABLE else ""
    return f"{outcome.replace('_', ' ')}{several}"


class Place(NamedTuple):
    """Where a square of the matrix stands: the options that its cells have in common."""

    backend: str
    recipe: str
    method: str
    quantizer: str


@dataclass(frozen=True)
class Square:
    """All cells of one recipe, method and quantizer.

    Attributes:
        outcome: the worst; counts: cells by outcome.
        seconds: the longest cell; peak_mb: largest growth of the process; gap: smallest share.
    """

    outcome: Outcome
    counts: dict[Outcome, int]
    seconds: float | None
    peak_mb: float | None
    gap: float | None


@dataclass(frozen=True)
class Agreement:
    """One relation.

    Attributes:
        outcome: its outcome; id: its id.
        check: the one that comes nearest to its bound; None where nothing was compared.
        slack: what it left of its bound, as a share; None where there is no such figure.
    """

    outcome: Outcome
    id: str
    check: Verdict | None
    slack: float | None


@dataclass(frozen=True)
class Run:
    """One run of one environment on one machine.

    Attributes:
        environment: its name; id: the run's; date: YYYY-MM-DD; time: HH:MM, both may be empty.
        machine: what computed and what else determined the figures, as recorded.
        versions: distribution to version.
        records: all of it, in the order of recording.
        interrupted: how far it came where it was interrupted, in words; else empty. Of a run on
            several machines, that is said of the whole.
    """

    environment: str
    id: str
    date: str
    time: str
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    records: tuple[Record, ...]
    interrupted: str = ""

    @property
    def cells(self) -> tuple[Record, ...]:
        """The records of cells."""
        return tuple(record for record in self.records if not record.arms)

    @property
    def relations(self) -> tuple[Record, ...]:
        """The records of relations."""
        return tuple(record for record in self.records if record.arms)

    @property
    def hardware(self) -> str:
        """What computed: the GPU, or the processor."""
        return hardware_of(self.machine)

    @property
    def system(self) -> str:
        """What it ran under: system, architecture and Python."""
        system, architecture = (self.machine.get(key) for key in ("system", "architecture"))
        python = self.machine.get("python")
        host = " ".join(str(part) for part in (system, architecture) if part)
        return ", ".join(filter(None, (host, f"Python {python}" if python else "")))

    @property
    def named_versions(self) -> Mapping[str, str]:
        """The versions that a reader looks for first."""
        return {name: self.versions[name] for name in NAMED if name in self.versions}


def moment_of(run_id: str) -> str:
    """Return when a run began, by its machine's clock: YYYY-MM-DD HH:MM, as far as its id tells."""
    day, clock = run_id[:8], run_id[9:13]
    if not (len(day) == 8 and day.isdigit()):
        return ""
    date = f"{day[:4]}-{day[4:6]}-{day[6:]}"
    return f"{date} {clock[:2]}:{clock[2:]}" if len(clock) == 4 and clock.isdigit() else date


def runs(records: Iterable[Record]) -> tuple[Run, ...]:
    """Part records by environment, run and machine, in the order of first appearance."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.environment, record.run_id), []).append(record)
    return tuple(
        _run(part, interrupted)
        for group in groups.values()
        for interrupted in [_interrupted(group)]
        for part in by_machine(group, lambda one: host_of(one.machine), _has_run).values()
    )


def plain_first(quantizer: str) -> tuple[bool, str]:
    """Return what quantizers are sorted by in every view: none first, then by library and name."""
    return quantizer not in (ABSENT, "none"), quantizer


def matrix(records: Iterable[Record]) -> dict[Place, Square]:
    """Fold the records of cells into squares: by backend, recipe, method and quantizer.

    They are in order, as `in_order` has it.
    """
    cells: dict[Place, list[Record]] = {}
    for record in records:
        if not record.arms:
            cells.setdefault(place_of(record.backend, record.axes), []).append(record)
    return {place: _square(cells[place]) for place in in_order(cells)}


def place_of(backend: str, axes: Mapping[str, Option]) -> Place:
    """Return where a cell with these axes stands."""

    def option(axis: str) -> str:
        return shown_option(axes.get(axis, ABSENT))

    return Place(backend, option("recipe"), option("method"), option("quantizer"))


def in_order(places: Iterable[Place]) -> tuple[Place, ...]:
    """Return each place once; quantizers have their order, others that of first appearance."""
    each = tuple(dict.fromkeys(places))
    columns = [list(dict.fromkeys(column)) for column in zip(*each, strict=True)]
    columns = [*columns[:-1], *(sorted(column, key=plain_first) for column in columns[-1:])]
    ordered = sorted(
        each, key=lambda place: [c.index(o) for c, o in zip(columns, place, strict=True)]
    )
    return tuple(ordered)


def counts(records: Iterable[Record]) -> dict[Outcome, int]:
    """Count records by outcome, worst first, zeros left out."""
    outcomes = [record.outcome for record in records]
    return {outcome: outcomes.count(outcome) for outcome in SEVERITY if outcome in outcomes}


def reasons(
    records: Iterable[Record], outcomes: Sequence[Outcome]
) -> dict[tuple[Outcome, str, str], tuple[str, ...]]:
    """Group what came to one of some outcomes: (outcome, reason, link) to the ids of cells."""
    groups: dict[tuple[Outcome, str, str], list[str]] = {}
    for record in records:
        if record.outcome in outcomes:
            key = (record.outcome, record.reason, record.link)
            groups.setdefault(key, []).append(record.cell_id)
    return {key: tuple(ids) for key, ids in groups.items()}


def agreements(records: Iterable[Record]) -> tuple[Agreement, ...]:
    """Return a row for each relation, with the check that comes nearest to its tolerance."""
    return tuple(_agreement(record) for record in records if record.arms)


def claimed_gap(record: Record) -> float | None:
    """Return the share of the gap that a cell closed, if its spec claims any."""
    claimed = any(check.name == "gap_closed" for check in record.checks)
    return record.metrics.get("gap_closed") if claimed else None


def _has_run(record: Record) -> bool:
    return bool(record.versions)


def _interrupted(records: Iterable[Record]) -> str:
    """Say how far a run came that was interrupted, from all its records; else nothing."""
    tally = Tally()
    for record in records:
        tally.enter(record.cell_id, record.planned)
    return tally.interrupted


def _run(group: Sequence[Record], interrupted: str) -> Run:
    first = group[0]
    # Whatever never ran knows its machine by half.
    source = next((record for record in group if record.versions), first)
    date, _, time = moment_of(first.run_id).partition(" ")
    return Run(
        environment=first.environment,
        id=first.run_id,
        date=date,
        time=time,
        machine=source.machine,
        versions=source.versions,
        records=tuple(group),
        interrupted=interrupted,
    )


def _agreement(record: Record) -> Agreement:
    def nearness(check: Verdict) -> tuple[bool, float]:
        return check.outcome != "failed", math.inf if check.slack is None else check.slack

    compared = [check for check in record.checks if is_relations(check.name)]
    nearest = min(compared, key=nearness, default=None)
    slack = None if nearest is None else nearest.slack
    return Agreement(record.outcome, record.cell_id, nearest, slack)


def _square(group: Sequence[Record]) -> Square:
    by_outcome = counts(group)
    gaps = [gap for record in group if (gap := claimed_gap(record)) is not None]
    return Square(
        outcome=next(iter(by_outcome)),
        counts=by_outcome,
        seconds=_extreme(max, _figures(group, "seconds")),
        peak_mb=_extreme(max, _figures(group, "process_peak_mb")),
        gap=_extreme(min, gaps),
    )


def _figures(group: Sequence[Record], name: str) -> list[float]:
    return [record.metrics[name] for record in group if name in record.metrics]


def _extreme(pick: Callable[[Iterable[float]], float], values: Sequence[float]) -> float | None:
    # `min` and `max` may lose a nan, and nothing is worse than one.
    if any(math.isnan(value) for value in values):
        return math.nan
    return pick(values) if values else None
