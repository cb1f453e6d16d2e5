"""The way through the house for a relation: its arms' records and tensors → one record."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence

from tunematrix.checks.differences import Side
from tunematrix.checks.relations import UNRECORDED, agree, undeclared
from tunematrix.checks.verdict import Verdict
from tunematrix.errors import TunematrixError
from tunematrix.evidence.events import LoggedStep
from tunematrix.evidence.log import read_events
from tunematrix.evidence.run_dir import RunDir, folder_name
from tunematrix.evidence.tensors import read_tensors
from tunematrix.matrix.cells import Cell
from tunematrix.matrix.relations import PLANTED, Arm, Related
from tunematrix.matrix.seeds import SEED
from tunematrix.paths import locked
from tunematrix.results.outcome import Expected, settle
from tunematrix.results.record import Outcome, Record
from tunematrix.results.tolerances import (
    LEAST_SEEDS,
    Tolerances,
    hardware_class,
    read_tolerances,
    threads,
)
from tunematrix.spec.relation import SAME, Planted
from tunematrix.workflow.cells import known_failures, record_of, run_cell, unjudged
from tunematrix.workflow.workshop import Workshop

GOOD = ("passed", "known_failure")


def run_arm(cell: Cell, workshop: Workshop) -> Record:
    """Return the record of a cell that a relation compares; it is run once, whoever comes first."""
    path = workshop.run_folder / "arms" / f"{folder_name(cell.id)}.json"
    with locked(path.with_suffix(".lock")):
        if path.exists():
            return Record.from_json(json.loads(path.read_text(encoding="utf-8")))
        if (workshop.run_folder / folder_name(cell.id)).exists():
            return unjudged(cell, workshop, "it was begun and not ended; its own report says why")
        record = run_cell(cell, workshop, known_failures(cell))
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(record.to_json()), encoding="utf-8")
        draft.replace(path)
    return record


def run_relation(related: Related, workshop: Workshop, expected: Sequence[Expected]) -> Record:
    """Compare the arms of a relation, which are run where they haven't been, and return its record.

    One whose arms give nothing to compare is not judged, and never passes.
    """
    records = [run_arm(arm.cell, workshop) for arm in related.arms]
    if refusal := _refusal(related, records, workshop):
        return refusal
    try:
        sides = [
            _side(arm, record, workshop) for arm, record in zip(related.arms, records, strict=True)
        ]
        table = read_tolerances(workshop.groups.roots, hardware_class(records[0]))
    except TunematrixError as error:
        return unjudged(related, workshop, f"not judged: {error}")
    if keys := undeclared(sides, related.relation.varied):
        text = f"not judged: its arms differ in {', '.join(keys)} as well; name it in the arms, or"
        return unjudged(related, workshop, f"{text} set it in the spec's overrides")
    name = related.id.partition(PLANTED)[0].partition(SEED)[0]
    spread = table.spread.get(name, {}) if table else {}
    verdicts = agree(related.relation, sides, spread.get)
    by_table = set(related.relation.compare) - set(related.relation.tolerance)
    if by_table:
        is_known = {f"{SAME}{quantity}" for quantity in by_table} <= spread.keys()
        verdicts += _recorded(table if is_known else None, records[0], workshop)
    return _settled(related, workshop, expected, records, verdicts)


def run_planted(related: Related, honest: Related, workshop: Workshop) -> Record:
    """Return the record of a relation with a planted difference, which the honest one has not."""
    record = run_relation(honest, workshop, ())
    if record.outcome in ("unavailable", "known_failure"):
        return record_of(related, workshop, outcome=record.outcome, reason=record.reason)
    if record.outcome != "passed":
        text = f"not judged: without the difference, it {record.outcome}: {record.reason}"
        return unjudged(related, workshop, text)
    return run_relation(related, workshop, ())


def clear_tensors(workshop: Workshop, cells: Iterable[str], records: Iterable[Record]) -> None:
    """Remove the tensors of cells (by their ids), save those that failed, or whose relation did."""
    failed = (record for record in records if record.outcome in ("failed", "error"))
    kept = {name for record in failed for name in record.arms or (record.cell_id,)}
    for name in set(cells) - kept:
        run_dir = RunDir(workshop.run_folder / folder_name(name))
        for path in (run_dir.tensors, *run_dir.path.glob(f"rank-*/{run_dir.tensors.name}")):
            path.unlink(missing_ok=True)


def _refusal(related: Related, records: Sequence[Record], workshop: Workshop) -> Record | None:
    """Return the record of a relation that can't be judged, if an arm gives no reason to."""
    for arm, record in zip(related.arms, records, strict=True):
        exits = [check for check in record.checks if check.name == "exit"]
        ended_well = all(check.outcome == "passed" for check in exits)
        # What an arm's own checks have noticed, the relation may have to notice as well.
        if record.outcome in (*GOOD, "failed") and ended_well:
            continue
        as_is = record.outcome in ("unavailable", "known_failure")
        which = f"arm {arm.name} ({record.cell_id})"
        return record_of(
            related,
            workshop,
            outcome=record.outcome if as_is else "error",
            reason=f"not judged: {which} {record.outcome}: {record.reason}",
            link=record.link,
        )
    return None


def _settled(
    related: Related,
    workshop: Workshop,
    expected: Sequence[Expected],
    records: Sequence[Record],
    verdicts: tuple[Verdict, ...],
) -> Record:
    if related.planted is not None:
        outcome, reason = _noticed(related.planted, verdicts)
    else:
        outcome, reason = settle(verdicts, None, expected)
        if wrong := next((one for one in records if one.outcome == "failed"), None):
            own = reason or "what it compares agrees"
            outcome, reason = "failed", f"{own}; arm {wrong.cell_id} failed: {wrong.reason}"
    return record_of(
        related,
        workshop,
        outcome=outcome,
        reason=reason,
        link=expected[0].link if outcome == "known_failure" else "",
        checks=verdicts,
        versions=records[0].versions,
        machine=records[0].machine,
    )


def _noticed(planted: Planted, verdicts: Sequence[Verdict]) -> tuple[Outcome, str]:
    """Return the outcome of a planted difference; one that can't be measured is none."""
    failed = [check for check in verdicts if check.outcome == "failed"]
    measured = [
        check
        for check in failed
        if isinstance(check.measured, float) and math.isfinite(check.measured)
    ]
    if measured:
        return "passed", f"noticed: {measured[0].name}: {measured[0].message}"
    unnoticed = f"{planted.fault} in arm {planted.arm} went unnoticed"
    return "failed", f"{unnoticed}: {failed[0].message}" if failed else unnoticed


def _side(arm: Arm, record: Record, workshop: Workshop) -> Side:
    run_dir = RunDir(workshop.run_folder / folder_name(record.cell_id))
    steps = [one for one in read_events(run_dir.events) if isinstance(one, LoggedStep)]
    return Side(
        name=arm.name,
        config=run_dir.read_cell().config,
        tensors=read_tensors(run_dir.tensors),
        stage=arm.stage,
        losses={one.step: one.loss for one in steps if one.loss is not None},
        figures=record.metrics,
    )


def _recorded(table: Tolerances | None, record: Record, workshop: Workshop) -> tuple[Verdict, ...]:
    """Warn where nothing was recorded on such hardware, or with other versions or threads."""
    environment = workshop.environment.name
    seeds = f"nox -s {environment} -- -m relation --seeds {LEAST_SEEDS}"
    todo = f"record it: {seeds}; tunematrix tolerances -e {environment}"
    if table is None:
        what = f"nothing is recorded on {hardware_class(record)}, so {UNRECORDED:g} is allowed"
        return (Verdict("tolerances", "warned", None, "a row", "", f"{what}; {todo}"),)
    if moved := table.age(record.versions, threads(record)):
        text = f"recorded on {table.recorded}, and since then: {moved}; {todo}"
        return (Verdict("tolerances", "warned", table.recorded, "of these versions", "", text),)
    return ()
