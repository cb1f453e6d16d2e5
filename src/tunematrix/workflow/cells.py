"""One way through the house for one cell: spec → matrix → run → evidence → checks → results."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import Any

from tunematrix.checks.judge import judge
from tunematrix.checks.verdict import Claim
from tunematrix.errors import TunematrixError, Unavailable
from tunematrix.evidence import collect
from tunematrix.evidence.run_dir import CellFile, RunDir
from tunematrix.matrix.cells import Cell, Exclusion
from tunematrix.matrix.relations import Related
from tunematrix.paths import shown
from tunematrix.results import measured
from tunematrix.results.outcome import Expected, settle
from tunematrix.results.record import Record, machine
from tunematrix.workflow.workshop import Workshop


def run_cell(cell: Cell, workshop: Workshop, expected: Sequence[Expected]) -> Record:
    """Take one cell the whole way and return its record; `expected` are its known failures."""
    absent = workshop.unavailable(cell)
    if absent is not None:
        return record_of(cell, workshop, outcome="unavailable", reason=absent)
    try:
        config = workshop.compose_ahead(cell).result()
        workshop.prepare(config)
        run_dir = RunDir.create(workshop.run_folder, cell.id)
        faults = (*workshop.faults, *cell.faults)
        run_dir.write_cell(CellFile(cell.id, config, str(run_dir.output), faults))
        end = workshop.run(run_dir, cell.spec.timeout)
        evidence = collect(run_dir, end)
    except Unavailable as error:
        return record_of(cell, workshop, outcome="unavailable", reason=str(error))
    except TunematrixError as error:
        return unjudged(cell, workshop, str(error))
    except OSError as error:
        return unjudged(cell, workshop, f"can't keep evidence in {shown(workshop.folder)}: {error}")
    verdicts = judge(evidence, Claim(cell.spec, config))
    outcome, reason = settle(verdicts, evidence, expected)
    if outcome in ("passed", "known_failure") and not workshop.keep_output:
        shutil.rmtree(run_dir.output, ignore_errors=True)
    return record_of(
        cell,
        workshop,
        outcome=outcome,
        reason=reason,
        link=expected[0].link if outcome == "known_failure" else "",
        checks=verdicts,
        metrics=measured.metrics(evidence),
        durations=measured.durations(evidence),
        run_dir=shown(run_dir.path),
        **measured.determinants(evidence),
    )


def unjudged(cell: Cell | Related, workshop: Workshop, reason: str) -> Record:
    """Return the record of what the harness could not judge."""
    return record_of(cell, workshop, outcome="error", reason=reason)


def excluded(exclusion: Exclusion, workshop: Workshop) -> Record:
    """Return the record of a point that is declared unsupported."""
    return record_of(
        exclusion.cell,
        workshop,
        outcome="unsupported",
        reason=exclusion.reason,
        link=exclusion.link,
    )


def known_failures(point: Cell | Related) -> tuple[Expected, ...]:
    """Return the failures that its spec declares for a cell, or for a relation by its arms."""
    of_relation = isinstance(point, Related)
    cells = [arm.cell for arm in point.arms] if isinstance(point, Related) else [point]
    return tuple(
        Expected(entry.raises, entry.check, entry.reason, entry.link)
        for entry in point.spec.known_failures
        if entry.is_of_relation == of_relation and any(entry.matches(cell.axes) for cell in cells)
    )


def declared_failures(exclusion: Exclusion) -> tuple[Expected, ...]:
    """Return how a point that is declared unsupported fails when it is tried."""
    named = (exclusion.reason, exclusion.link)
    if exclusion.checks:
        return tuple(Expected(None, check, *named) for check in exclusion.checks)
    return (Expected(exclusion.raises, None, *named),)


def record_of(cell: Cell | Related, workshop: Workshop, **fields: Any) -> Record:
    """Return a record of a cell or a relation, with what follows from the plan filled in."""
    source = cell.spec.source.path
    fields.setdefault("machine", machine())
    if isinstance(cell, Related):
        fields["arms"] = tuple(arm.cell.id for arm in cell.arms)
    return Record(
        run_id=workshop.run_id,
        cell_id=cell.id,
        spec=os.path.relpath(source, workshop.root) if source else "",
        environment=workshop.environment.name,
        axes=dict(cell.axes),
        **fields,
    )
