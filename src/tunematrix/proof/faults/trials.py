"""One fault → the cells and relations that can see it, one after the other, until one notices."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field, replace

from tunematrix.evidence.events import BrokenFault, LoggedStep
from tunematrix.evidence.log import read_events
from tunematrix.evidence.run_dir import RunDir
from tunematrix.matrix.cells import Cell
from tunematrix.matrix.relations import Related
from tunematrix.proof.faults.catalogue import Entry, Unit
from tunematrix.proof.faults.reach import differ
from tunematrix.proof.faults.score import Finding
from tunematrix.results.record import Record
from tunematrix.workflow.context import RunContext
from tunematrix.workflow.relations import run_arm, run_relation

LOUDER = 1.25
"""Times the honest final loss; above it, a fault is heard in the loss where a spec bounds none."""
LOSS_CHECKS = ("final_loss", "gap_closed", "finite_loss")


@dataclass
class FaultRunner:
    """Tries faults in one context.

    Attributes:
        known: by the id of a unit, the checks that it is known to fail without a fault; None where
            it can't be used. Asked once for all faults.
    """

    context: RunContext
    known: dict[str, Set[str] | None] = field(default_factory=dict)

    def try_fault(self, entry: Entry, units: Sequence[Unit]) -> Finding:
        """Run units under a fault until a check fails on a measured value; say what became of it.

        Each unit is run honestly as well, and one that fails then isn't used. What a cell is known
        to fail notices nothing: the suite is as content with it under the fault.
        """
        started = time.perf_counter()
        finding = untried(entry)
        for unit in units:
            if (known := self._known_to_fail(unit)) is None:
                finding = replace(finding, unusable=(*finding.unusable, unit.id))
                continue
            sabotaged = unit.sabotaged(entry.id, entry.target)
            finding = replace(finding, tried=(*finding.tried, unit.id))
            finding = self._try_unit(finding, sabotaged, known)
            _tidy(sabotaged, self.context)
            if finding.fate in ("detected", "broken"):
                break
        return replace(finding, seconds=time.perf_counter() - started)

    def _known_to_fail(self, unit: Unit) -> Set[str] | None:
        if unit.id not in self.known:
            records = list(_run(unit, self.context))
            # A relation is judged over arms that pass.
            fine = {"passed"} if isinstance(unit, Related) else {"passed", "known_failure"}
            names = {check.name for record in records for check in record.failed_checks}
            is_usable = fine.issuperset(record.outcome for record in records)
            self.known[unit.id] = names if is_usable and "exit" not in names else None
        return self.known[unit.id]

    def _try_unit(self, finding: Finding, sabotaged: Unit, known: Set[str]) -> Finding:
        """Return the finding after one more unit: what was missed outweighs a crash elsewhere.

        Args:
            known: checks that this unit fails anyway.
        """
        for record in _run(sabotaged, self.context):
            if _fault_broke(record, self.context):
                return replace(finding, fate="broken", reason=record.reason)
            where = record.honest_id
            unjudged = record.outcome in ("error", "unavailable")
            if unjudged or any(check.name == "exit" for check in record.failed_checks):
                reason = finding.reason or f"{where}: {record.reason}"
                fate = "crashed" if finding.fate == "unreached" else finding.fate
                finding = replace(finding, fate=fate, reason=reason)
                continue
            finding = _compare_with_honest(finding, record, self.context)
            new = (check for check in record.failed_checks if check.name not in known)
            failed = (check for check in new if check.is_measured)
            if seen := next(failed, None):
                return replace(
                    finding,
                    fate="detected",
                    by=seen.name,
                    where=where,
                    measured=seen.measured,
                    bound=str(seen.bound),
                    unit=seen.unit,
                    reason=seen.message,
                )
        return finding


def untried(entry: Entry) -> Finding:
    """Return what is known of a fault before it has been anywhere."""
    return Finding(
        entry.id,
        entry.fault_class,
        entry.summary,
        "unreached",
        silent=True,
        fitted=entry.fitted,
        subtle=entry.subtle,
    )


def _run(unit: Unit, context: RunContext) -> Iterator[Record]:
    """Yield the record of each cell, and of the relation in the end if all of its arms passed."""
    outcomes = set()
    for cell in _cells(unit):
        record = run_arm(cell, context)
        outcomes.add(record.outcome)
        yield record
    if isinstance(unit, Related) and outcomes == {"passed"}:
        yield run_relation(unit, context, ())


def _compare_with_honest(finding: Finding, record: Record, context: RunContext) -> Finding:
    """Note whether a run differs from its honest one, and whether its loss tells."""
    if record.arms:
        return finding  # its arms have been looked at
    sabotaged = context.run_dir(record.cell_id)
    honest = context.run_dir(record.honest_id)
    if finding.fate in ("unreached", "crashed") and differ(honest, sabotaged):
        finding = replace(finding, fate="missed")
    is_heard = any(check.name in LOSS_CHECKS for check in record.failed_checks)
    before, after = _final_loss(honest), _final_loss(sabotaged)
    louder = before is not None and after is not None and not after <= LOUDER * before
    return replace(finding, silent=finding.silent and not is_heard and not louder)


def _fault_broke(record: Record, context: RunContext) -> bool:
    """Whether the fault of a cell raised itself; a relation's arms have been asked already."""
    events = context.run_dir(record.cell_id).events
    return events.exists() and any(isinstance(one, BrokenFault) for one in read_events(events))


def _final_loss(run_dir: RunDir) -> float | None:
    if not run_dir.events.exists():
        return None
    steps = (one for one in read_events(run_dir.events) if isinstance(one, LoggedStep))
    losses = [one.loss for one in steps if one.loss is not None]
    return losses[-1] if losses else None


def _cells(unit: Unit) -> tuple[Cell, ...]:
    arms = [arm.cell for arm in unit.arms] if isinstance(unit, Related) else [unit]
    return tuple(dict.fromkeys(arms))


def _tidy(unit: Unit, context: RunContext) -> None:
    """Keep what a sabotaged cell measured and said, and not what it saved."""
    for cell in _cells(unit):
        run_dir = context.run_dir(cell.id)
        shutil.rmtree(run_dir.output, ignore_errors=True)
        for path in (run_dir.tensors, *run_dir.path.glob(f"rank-*/{run_dir.tensors.name}")):
            path.unlink(missing_ok=True)
