"""One way through the house for one cell: spec → matrix → run → evidence → checks → results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from tunematrix.configuration.releases import (
    SPEC,
    FaultOfReleases,
    Installed,
    ReleaseTable,
    covers,
)
from tunematrix.errors import TunematrixError, Unavailable
from tunematrix.matrix.cells import Cell, Exclusion
from tunematrix.matrix.relations import Related
from tunematrix.matrix.releases import version_here
from tunematrix.paths import unwritable
from tunematrix.results.outcome import Expected
from tunematrix.results.record import Record
from tunematrix.spec.known_failure import holds
from tunematrix.spec.relation import is_relations
from tunematrix.workflow import steps
from tunematrix.workflow.context import RunContext
from tunematrix.workflow.passage import Passage, carry
from tunematrix.workflow.records import unavailable, unjudged


def run_cell(cell: Cell, context: RunContext, expected: Sequence[Expected]) -> Record:
    """Take one cell the whole way and return its record; `expected` are its known failures."""
    if context.fleet is not None:
        return context.fleet.carry(cell, context)
    try:
        record = carry(Passage(cell, tuple(expected)), context, steps.CELL).record
    except Unavailable as error:
        return unavailable(cell, context, str(error))
    except TunematrixError as error:
        return unjudged(cell, context, str(error))
    except OSError as error:
        return unjudged(cell, context, str(unwritable(context.folder, error)))
    assert record is not None
    return record


def get_ready(cell: Cell, context: RunContext) -> None:
    """Prepare what a cell needs before its line is printed, so that progress appears above it.

    What goes wrong is left to the cell, which has a record to tell it in.
    """
    if context.isolation != "foreground" and context.fleet is None:
        with suppress(Exception):  # whatever it is, the cell meets it again
            carry(Passage(cell), context, steps.READY)


def known_failures(
    point: Cell | Related, here: ReleaseTable, installed: Installed = version_here
) -> tuple[Expected, ...]:
    """Return the failures that are known of a cell, or of a relation by its arms.

    Args:
        point: the cell or the relation.
        here: what is known of the releases that are installed.
        installed: which those are.
    """
    is_relation = isinstance(point, Related)
    cells = [arm.cell for arm in point.arms] if isinstance(point, Related) else [point]
    # An arm may be a cell that another spec runs as well, by whose name it goes.
    own = {SPEC: point.spec.test_id} if is_relation else {}
    places = [{**cell.place, **own} for cell in cells]
    may = [
        expected
        for fault in here.faults
        if any(holds(fault.when, place) for place in places)
        for expected in _may_fail(fault, is_relation=is_relation)
    ]
    must = [
        Expected(entry.raises, entry.check, entry.reason, entry.link)
        for entry in point.spec.known_failures
        if entry.is_of_relation == is_relation
        and any(entry.matches(cell.axes) for cell in cells)
        and covers(entry.releases, installed)
    ]
    return (*must, *may)


def _may_fail(fault: FaultOfReleases, *, is_relation: bool) -> Iterator[Expected]:
    """Yield how cells, or relations, may fail of a fault."""
    named = (fault.reason, fault.link)
    for check in fault.checks:
        if is_relations(check) == is_relation:
            yield Expected(None, check, *named, must=False)
    if fault.raises and not is_relation:
        yield Expected(fault.raises, None, *named, must=False)


def declared_failures(exclusion: Exclusion) -> tuple[Expected, ...]:
    """Return how a point that is declared unsupported fails when it is tried."""
    named = (exclusion.reason, exclusion.link)
    if exclusion.checks:
        return tuple(Expected(None, check, *named) for check in exclusion.checks)
    return (Expected(exclusion.raises, None, *named),)
