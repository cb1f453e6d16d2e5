"""The way through the house for a relation: its arms' records and tensors → one record."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence, Set

from tunematrix.baselines.tolerances import (
    LEAST_SEEDS,
    Tolerances,
    hardware_class,
    read_tolerances,
    threads,
)
from tunematrix.checks.differences import Side
from tunematrix.checks.registry import TOLERANCES
from tunematrix.checks.relations import UNRECORDED, agree, undeclared
from tunematrix.checks.verdict import Verdict
from tunematrix.errors import TunematrixError
from tunematrix.evidence.events import LoggedStep
from tunematrix.evidence.log import read_events
from tunematrix.evidence.run_dir import folder_name
from tunematrix.evidence.tensors import read_tensors
from tunematrix.matrix.cells import Cell
from tunematrix.matrix.relations import Arm, Related
from tunematrix.paths import locked
from tunematrix.results.outcome import Expected, Settlement, settle
from tunematrix.results.record import Record
from tunematrix.spec.relation import SAME, Planted
from tunematrix.workflow.cells import known_failures, run_cell
from tunematrix.workflow.context import RunContext
from tunematrix.workflow.records import record_of, unjudged

GOOD = ("passed", "known_failure")


def run_arm(cell: Cell, context: RunContext) -> Record:
    """Return the record of a cell that a relation compares; it is run once, whoever comes first."""
    path = context.run_folder / "arms" / f"{folder_name(cell.id)}.json"
    with locked(path.with_suffix(".lock")):
        if path.exists():
            return Record.from_json(json.loads(path.read_text(encoding="utf-8")))
        if context.run_dir(cell.id).path.exists():
            text = "the arm was started and didn't finish; see its own failure"
            return unjudged(cell, context, text)
        record = run_cell(cell, context, known_failures(cell, context.known_here))
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(record.to_json()), encoding="utf-8")
        draft.replace(path)
    return record


def run_relation(related: Related, context: RunContext, expected: Sequence[Expected]) -> Record:
    """Compare the arms of a relation, which are run where they haven't been, and return its record.

    One whose arms give nothing to compare is not compared, and never passes.
    """
    records = [run_arm(arm.cell, context) for arm in related.arms]
    if refusal := _refusal(related, records, context):
        return refusal
    try:
        sides = [
            _side(arm, record, context) for arm, record in zip(related.arms, records, strict=True)
        ]
        table = read_tolerances(context.groups.roots, hardware_class(records[0]))
    except TunematrixError as error:
        return unjudged(related, context, f"not compared: {error}")
    if keys := undeclared(sides, related.relation.varied):
        text = f"not compared: the arms also differ in {', '.join(keys)}"
        advice = "name them in the arms, or set them in overrides"
        return unjudged(related, context, f"{text}; {advice}")
    spread = table.spread.get(related.base_id, {}) if table else {}
    verdicts = agree(related.relation, sides, spread.get)
    by_table = set(related.relation.compare) - set(related.relation.tolerance)
    if by_table:
        is_known = {f"{SAME}{quantity}" for quantity in by_table} <= spread.keys()
        verdicts += _recorded(table if is_known else None, records[0], context)
    return _settled(related, context, expected, records, verdicts)


def run_planted(related: Related, honest: Related, context: RunContext) -> Record:
    """Return the record of a relation with a planted difference, which the honest one has not."""
    record = run_relation(honest, context, ())
    if record.outcome in ("unavailable", "known_failure"):
        return record_of(related, context, outcome=record.outcome, reason=record.reason)
    if record.outcome != "passed":
        text = f"not compared: without the difference, it {record.outcome}: {record.reason}"
        return unjudged(related, context, text)
    return run_relation(related, context, ())


def clear_tensors(context: RunContext, cells: Iterable[str], kept: Set[str]) -> None:
    """Remove the tensors of cells (by their ids), save those that are kept."""
    for name in set(cells) - kept:
        run_dir = context.run_dir(name)
        for path in (run_dir.tensors, *run_dir.path.glob(f"rank-*/{run_dir.tensors.name}")):
            path.unlink(missing_ok=True)


def _refusal(related: Related, records: Sequence[Record], context: RunContext) -> Record | None:
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
            context,
            outcome=record.outcome if as_is else "error",
            reason=f"not compared: {which} {record.outcome}: {record.reason}",
            link=record.link,
        )
    return None


def _settled(
    related: Related,
    context: RunContext,
    expected: Sequence[Expected],
    records: Sequence[Record],
    verdicts: tuple[Verdict, ...],
) -> Record:
    if related.difference is not None:
        settled = _noticed(related.difference, verdicts)
    else:
        settled = settle(verdicts, None, expected)
        if wrong := next((one for one in records if one.outcome == "failed"), None):
            own = settled.reason or "what it compares agrees"
            text = f"{own}; arm {wrong.cell_id} failed: {wrong.reason}"
            settled = Settlement("failed", text)
    return record_of(
        related,
        context,
        **settled._asdict(),
        checks=verdicts,
        versions=records[0].versions,
        machine=records[0].machine,
    )


def _noticed(planted: Planted, verdicts: Sequence[Verdict]) -> Settlement:
    """Return the outcome of a planted difference; one that can't be measured is none."""
    failed = [check for check in verdicts if check.outcome == "failed"]
    measured = [
        check
        for check in failed
        if isinstance(check.measured, float) and math.isfinite(check.measured)
    ]
    if measured:
        text = f"noticed: {measured[0].name}: {measured[0].message}"
        return Settlement("passed", text)
    unnoticed = f"{planted.fault} in arm {planted.arm} went unnoticed"
    text = f"{unnoticed}: {failed[0].message}" if failed else unnoticed
    return Settlement("failed", text)


def _side(arm: Arm, record: Record, context: RunContext) -> Side:
    run_dir = context.run_dir(record.cell_id)
    steps = [one for one in read_events(run_dir.events) if isinstance(one, LoggedStep)]
    return Side(
        name=arm.name,
        config=run_dir.read_cell().config,
        tensors=read_tensors(run_dir.tensors),
        stage=arm.stage,
        losses={one.step: one.loss for one in steps if one.loss is not None},
        figures=record.metrics,
    )


def _recorded(table: Tolerances | None, record: Record, context: RunContext) -> tuple[Verdict, ...]:
    """Warn where nothing was recorded on such hardware, or with other versions or threads."""
    environment = context.environment.name
    seeds = f"nox -s {environment} -- -m relation --seeds {LEAST_SEEDS}"
    todo = f"record it: {seeds}; tunematrix tolerances -e {environment}"
    if table is None:
        what = f"no tolerance is recorded for {hardware_class(record)}; {UNRECORDED:g} is used"
        return (Verdict(TOLERANCES, "warned", None, None, "", f"{what}; {todo}"),)
    if moved := table.age(record.versions, threads(record)):
        text = f"recorded on {table.recorded}, and since then: {moved}; {todo}"
        return (Verdict(TOLERANCES, "warned", table.recorded, None, "", text),)
    return ()
