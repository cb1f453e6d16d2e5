"""One fault → the cells and relations that can see it, one after the other, until one notices."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tunematrix.checks.verdict import Verdict
from tunematrix.evidence.events import LoggedStep
from tunematrix.evidence.log import read_events
from tunematrix.evidence.run_dir import RunDir, folder_name
from tunematrix.matrix.cells import Cell
from tunematrix.matrix.relations import PLANTED, Related
from tunematrix.power.catalogue import Entry, Unit
from tunematrix.power.reach import differ
from tunematrix.results.findings import Finding
from tunematrix.results.record import Record
from tunematrix.workflow.relations import run_arm, run_relation
from tunematrix.workflow.workshop import Workshop

BROKEN = "FaultBroken"
LOUDER = 1.25
"""Times the honest final loss; above it, a fault is heard in the loss where a spec bounds none."""
OF_THE_LOSS = ("final_loss", "gap_closed", "finite_loss")


@dataclass
class _Heard:
    """What is known of a fault so far."""

    changed: bool = False
    silent: bool = True
    crash: str = ""
    tried: tuple[str, ...] = ()


def try_fault(entry: Entry, units: Sequence[Unit], workshop: Workshop) -> Finding:
    """Run units under a fault until a check fails on a measured value, and say what became of it.

    Each unit is run honestly as well, once for all faults; one that fails then isn't used.
    """
    started, heard = time.perf_counter(), _Heard()

    def found(fate: str, **more: object) -> Finding:
        fields = {"silent": heard.silent, "tried": heard.tried, **more}
        seconds = time.perf_counter() - started
        named = (entry.id, entry.fault_class, entry.summary)
        return Finding(*named, fate=fate, seconds=seconds, **fields)  # type: ignore[arg-type]

    for unit in units:
        if not _is_usable(unit, workshop):
            continue
        heard.tried += (unit.id,)
        sabotaged = _sabotaged(unit, entry)
        for record, verdicts in _run(sabotaged, workshop):
            if BROKEN in record.reason:
                return found("broken", reason=record.reason)
            ended_well = not any(v.name == "exit" and v.outcome == "failed" for v in verdicts)
            heard.crash = heard.crash or ("" if ended_well else f"{unit.id}: {record.reason}")
            _listen(heard, record, verdicts, workshop)
            if ended_well and (seen := next(filter(_measured, verdicts), None)):
                _tidy(sabotaged, workshop)
                what = (seen.name, record.cell_id.partition(PLANTED)[0])
                figure = {"measured": seen.measured, "bound": seen.bound, "unit": seen.unit}
                return found("detected", by=what[0], where=what[1], reason=seen.message, **figure)
        _tidy(sabotaged, workshop)
    if heard.crash:
        return found("crashed", reason=heard.crash)
    return found("missed" if heard.changed else "unreached")


def _is_usable(unit: Unit, workshop: Workshop) -> bool:
    """Whether it passes without a fault; run once for all faults."""
    if any(run_arm(cell, workshop).outcome != "passed" for cell in _cells(unit)):
        return False
    return not isinstance(unit, Related) or run_relation(unit, workshop, ()).outcome == "passed"


def _run(unit: Unit, workshop: Workshop) -> Iterator[tuple[Record, Sequence[Verdict]]]:
    """Yield a record of each cell, and of the relation in the end if all of its arms passed."""
    outcomes = []
    for cell in _cells(unit):
        record = run_arm(cell, workshop)
        outcomes.append(record.outcome)
        yield record, record.checks
    if isinstance(unit, Related) and set(outcomes) == {"passed"}:
        record = run_relation(unit, workshop, ())
        yield record, record.checks


def _listen(heard: _Heard, record: Record, verdicts: Sequence[Verdict], workshop: Workshop) -> None:
    """Note whether a run differs from its honest one, and whether its loss tells."""
    if record.arms:
        return  # its arms have been looked at
    sabotaged = _run_dir(record.cell_id, workshop)
    honest = _run_dir(record.cell_id.partition(PLANTED)[0], workshop)
    heard.changed = heard.changed or differ(honest, sabotaged)
    told = any(v.name in OF_THE_LOSS and v.outcome == "failed" for v in verdicts)
    before, after = _final_loss(honest), _final_loss(sabotaged)
    louder = before is not None and after is not None and not after <= LOUDER * before
    heard.silent = heard.silent and not told and not louder


def _final_loss(run_dir: RunDir) -> float | None:
    if not run_dir.events.exists():
        return None
    steps = (one for one in read_events(run_dir.events) if isinstance(one, LoggedStep))
    losses = [one.loss for one in steps if one.loss is not None]
    return losses[-1] if losses else None


def _measured(verdict: Verdict) -> bool:
    """Whether a check failed on something that was measured, and not for want of evidence."""
    value = verdict.measured
    is_nan = isinstance(value, float) and math.isnan(value)
    return verdict.outcome == "failed" and value is not None and not is_nan


def _cells(unit: Unit) -> tuple[Cell, ...]:
    arms = [arm.cell for arm in unit.arms] if isinstance(unit, Related) else [unit]
    return tuple(dict.fromkeys(arms))


def _sabotaged(unit: Unit, entry: Entry) -> Unit:
    if isinstance(unit, Cell):
        return _under(unit, entry)
    cells = {cell.id: _under(cell, entry) for cell in _cells(unit)}
    return replace(unit.sharing(cells), id=f"{unit.id}{PLANTED}{entry.id}")


def _under(cell: Cell, entry: Entry) -> Cell:
    return replace(cell, id=f"{cell.id}{PLANTED}{entry.id}", faults=(entry.target,))


def _tidy(unit: Unit, workshop: Workshop) -> None:
    """Keep what a sabotaged cell measured and said, and not what it saved."""
    for cell in _cells(unit):
        run_dir = _run_dir(cell.id, workshop)
        shutil.rmtree(run_dir.output, ignore_errors=True)
        for path in (run_dir.tensors, *run_dir.path.glob(f"rank-*/{run_dir.tensors.name}")):
            path.unlink(missing_ok=True)


def _run_dir(cell_id: str, workshop: Workshop) -> RunDir:
    return RunDir(workshop.run_folder / folder_name(cell_id))
