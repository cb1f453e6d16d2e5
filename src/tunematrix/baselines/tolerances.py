"""What honest runs differ by: records of relations under many seeds → a table, and back.

One file for each class of hardware, `tolerances/<backend>-<architecture>.yaml` in a config folder;
it is made by a command and read by people.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from tunematrix.baselines.files import minor, read_file, slug, write_file
from tunematrix.checks.arithmetic import severity
from tunematrix.checks.relations import FACTOR, SIGHT
from tunematrix.configuration.section import NonEmpty, Section
from tunematrix.errors import BadInput, NothingTested, counted
from tunematrix.paths import shown
from tunematrix.results.record import Record
from tunematrix.spec.relation import SAME, is_relations

FOLDER = "tolerances"
LEAST_SEEDS = 20
NAMED = ("torch", "transformers", "peft", "trl", "mlx", "mlx-lm")

_HEAD = """\
# What honest runs differ by: the largest of all seeds, by relation and check. A relation allows
# {factor} times as much. Written by: tunematrix tolerances --environment {environment}
"""


class Tolerances(Section):
    """One class of hardware.

    Attributes:
        recorded: the day, YYYY-MM-DD; seeds: how many, at least.
        threads: of each cell; versions: distribution to version.
        spread: id of a relation to name of a check to the largest difference.
    """

    recorded: NonEmpty
    hardware: NonEmpty
    seeds: int = Field(ge=1)
    threads: int = Field(ge=1)
    versions: Mapping[str, str]
    spread: Mapping[str, Mapping[str, Annotated[float, Field(ge=0)]]]

    def age(self, versions: Mapping[str, str], threads: int) -> str:
        """Say what has moved since it was recorded; empty where nothing did that matters."""
        # An environment may have one of the two alone: what isn't installed computes nothing.
        both = [name for name in ("torch", "mlx") if name in self.versions and name in versions]
        moved = [
            f"{name} {self.versions[name]} → {versions[name]}"
            for name in both
            if minor(self.versions[name]) != minor(versions[name])
        ]
        moved += [f"threads {self.threads} → {threads}"] if threads != self.threads else []
        return ", ".join(moved)


def hardware_class(record: Record) -> str:
    """Return the class of the hardware that a record was made on: its GPU, or its architecture."""
    computes = record.machine.get("gpu") or record.machine.get("architecture") or ""
    return slug(f"{record.backend} {computes}")


def read_tolerances(roots: Sequence[Path], hardware: str) -> Tolerances | None:
    """Read the table of a class of hardware; a project's own rows stand before the shipped ones.

    Raises:
        BadInput: a table is malformed; the text says file and line.
    """
    files = [root / FOLDER / f"{hardware}.yaml" for root in roots]
    tables = [_read(file) for file in files if file.is_file()]
    if not tables:
        return None
    spread = {name: row for table in tables for name, row in table.spread.items()}
    return tables[-1].model_copy(update={"spread": spread})


def _read(file: Path) -> Tolerances:
    """Read a table, and judge its figures as those are judged that are written."""
    table = read_file(file, Tolerances)
    blind = [
        f"{shown(file)}: spread: {name}: {check}: {FACTOR} times {figure:g} would be allowed, "
        f"and {SIGHT:.0%} not be seen; remove it, or measure it again"
        for name, row in table.spread.items()
        for check, figure in row.items()
        if FACTOR * figure >= SIGHT
    ]
    if blind:
        raise BadInput("\n".join(blind))
    return table


def tabulate_all(records: Sequence[Record], folder: Path) -> tuple[Tolerances, ...]:
    """Fold the relations of a run under many seeds into a table for each class of hardware.

    Rows that `folder` has already, and that were not run again, stay if they are of this stack.

    Raises:
        NothingTested: no relation was run under several seeds.
        BadInput: one of them can't be relied upon.
    """
    runs: dict[str, dict[str, list[Record]]] = {}
    for record in records:
        is_honest = not record.planted and record.outcome != "known_failure"
        if record.arms and record.seed is not None and is_honest:
            relations = runs.setdefault(hardware_class(record), {})
            relations.setdefault(record.base_id, []).append(record)
    # What is unavailable here under all seeds has no row.
    tried = {
        hardware: {name: group for name, group in relations.items() if any(map(_was_tried, group))}
        for hardware, relations in runs.items()
    }
    if not any(tried.values()):
        environment = records[0].environment if records else "cpu"
        command = f"nox -s {environment} -- -m relation"
        message = f"no relation was run under several seeds; run: {command}"
        raise NothingTested(f"{message} --seeds {LEAST_SEEDS}")
    refused = [
        text
        for relations in tried.values()
        for name, group in relations.items()
        for text in _unfit(name, group)
    ]
    if refused:
        raise BadInput("\n".join(refused))
    return tuple(
        tabulate(relations, read_tolerances([folder], hardware))
        for hardware, relations in tried.items()
        if relations
    )


def tabulate(runs: Mapping[str, Sequence[Record]], known: Tolerances | None) -> Tolerances:
    """Fold the records of relations (by their ids, without a seed) into a table."""
    newest = next(record for group in runs.values() for record in group)
    rows = {name: row for name, group in runs.items() if (row := _spread(group))}
    # Under the new date and versions, rows of another stack would look as if they were measured.
    kept = known and not known.age(newest.versions, threads(newest))
    return Tolerances(
        recorded=newest.date,
        hardware=hardware_class(newest),
        seeds=min(len(group) for group in runs.values()),
        threads=threads(newest),
        versions={name: newest.versions[name] for name in NAMED if name in newest.versions},
        spread=dict(sorted({**(known.spread if known and kept else {}), **rows}.items())),
    )


def write_tolerances(table: Tolerances, folder: Path, environment: str) -> Path:
    """Write a table where relations look for it, and return its file."""
    plain: dict[str, Any] = table.model_dump(mode="json")
    plain["spread"] = {
        name: {check: _short(figure) for check, figure in row.items()}
        for name, row in table.spread.items()
    }
    head = _HEAD.format(factor=FACTOR, environment=environment)
    return write_file(folder / FOLDER / f"{table.hardware}.yaml", head, plain)


def threads(record: Record) -> int:
    """Return how many threads a cell of this record's machine computed with."""
    count = record.machine.get("threads")
    return count if isinstance(count, int) else 1


def _spread(group: Sequence[Record]) -> dict[str, float]:
    largest: dict[str, float] = {}
    for check in (check for record in group for check in record.checks):
        if check.name.startswith(SAME) and isinstance(check.measured, float):
            largest[check.name] = max(largest.get(check.name, 0.0), check.measured, key=severity)
    return largest


def _unfit(name: str, group: Sequence[Record]) -> Iterable[str]:
    seeds = {record.seed for record in group}
    if len(seeds) < LEAST_SEEDS:
        yield f"{name}: was run under {counted(len(seeds), 'seed')}; {LEAST_SEEDS} are the least"
    if len({(str(sorted(record.versions.items())), threads(record)) for record in group}) > 1:
        yield f"{name}: its runs had different versions, or threads; give those of one run"
    for record in group:
        compared = [check for check in record.checks if is_relations(check.name)]
        absent = [check for check in compared if check.measured is None]
        if absent or not compared:
            why = absent[0].message if absent else record.reason
            yield f"{record.cell_id}: {record.outcome}, so it measured nothing: {why}"
    for check, figure in _spread(group).items():
        if not math.isfinite(figure):
            yield f"{name}: {check} of an honest run is {figure}; the relation doesn't hold"
        elif FACTOR * _short(figure) >= SIGHT:
            allowed = f"{FACTOR} times {figure:.2g} of honest runs"
            yield f"{name}: {check} would allow {allowed}, and see no {SIGHT:.0%}; compare less"


def _was_tried(record: Record) -> bool:
    return bool(record.checks) or record.outcome != "unavailable"


def _short(figure: float) -> float:
    """Two digits, rounded up: a table is read by people."""
    if not figure:
        return 0.0
    exact = Decimal(repr(figure))
    return float(exact.quantize(Decimal((0, (1,), exact.adjusted() - 1)), ROUND_CEILING))
