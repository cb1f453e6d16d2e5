"""Records of cells and relations, also of those that didn't run; no secret gets into one."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from tunematrix.evidence.secrets import masked, masked_all, secrets_in
from tunematrix.matrix.cells import Cell, Exclusion
from tunematrix.matrix.relations import Related
from tunematrix.project import spec_name
from tunematrix.report.text import shortened
from tunematrix.results.planned import planned_fields
from tunematrix.results.record import Option, Record, backend_of, machine
from tunematrix.workflow.context import RunContext

_TOLD = ("reason", "link", "machine", "metrics", "versions", "overrides", "stderr")
"""Fields that may hold what a cell, a spec or an option says; the others name what is recorded."""


def record_of(cell: Cell | Related, context: RunContext, **fields: Any) -> Record:
    """Return a record of a cell or a relation, with what follows from the plan filled in."""
    source = cell.spec.source.path
    fields["machine"] = {**fields.get("machine", machine()), **context.code}
    record = Record(
        run_id=context.run_id,
        spec=spec_name(source, context.root) if source else "",
        environment=context.environment.of(backend_of(cell.axes)).name,
        faults=context.faults,
        **_planned(cell, context),
        **fields,
    )
    return without_secrets(record)


def without_secrets(record: Record) -> Record:
    """Return a record whose texts are masked, and then cut where they are very long."""
    secrets = secrets_in(os.environ)
    told = {name: masked_all(getattr(record, name), secrets) for name in _TOLD}
    checks = tuple(
        replace(
            one,
            measured=masked_all(one.measured, secrets),
            message=shortened(masked(one.message, secrets)),
        )
        for one in record.checks
    )
    return replace(record, **{**told, "reason": shortened(told["reason"])}, checks=checks)


def telling_axes(point: Cell | Related, context: RunContext) -> dict[str, Option]:
    """Return its axes without those that nothing takes notice of, which would mislead."""
    cells = [arm.cell for arm in point.arms] if isinstance(point, Related) else [point]
    recipes = {cell.axes["recipe"] for cell in cells}
    telling = frozenset[str]().union(*map(context.groups.with_effect, recipes))
    return {axis: option for axis, option in point.axes.items() if axis in telling}


def _planned(point: Cell | Related, context: RunContext) -> dict[str, Any]:
    """Return what follows from the plan."""
    return {**planned_fields(point), "axes": telling_axes(point, context)}


def unjudged(cell: Cell | Related, context: RunContext, reason: str) -> Record:
    """Return the record of what could not be judged."""
    return record_of(cell, context, outcome="error", reason=reason)


def unavailable(cell: Cell, context: RunContext, reason: str) -> Record:
    """Return the record of a cell that something is missing for where it would run."""
    return record_of(cell, context, outcome="unavailable", reason=reason)


def excluded(exclusion: Exclusion, context: RunContext) -> Record:
    """Return the record of a point that is declared unsupported."""
    return record_of(
        exclusion.cell,
        context,
        outcome="unsupported",
        reason=exclusion.reason,
        link=exclusion.link,
    )
