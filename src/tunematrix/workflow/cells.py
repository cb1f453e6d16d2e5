"""One way through the house for one cell: spec → matrix → run → evidence → checks → results."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from tunematrix.errors import TunematrixError, Unavailable
from tunematrix.matrix.cells import Cell, Exclusion
from tunematrix.matrix.relations import Related
from tunematrix.paths import shown
from tunematrix.results.outcome import Expected
from tunematrix.results.record import Record
from tunematrix.workflow import steps
from tunematrix.workflow.context import RunContext
from tunematrix.workflow.passage import Passage, carry
from tunematrix.workflow.records import unavailable, unjudged


def run_cell(cell: Cell, context: RunContext, expected: Sequence[Expected]) -> Record:
    """Take one cell the whole way and return its record; `expected` are its known failures."""
    try:
        record = carry(Passage(cell, tuple(expected)), context, steps.CELL).record
    except Unavailable as error:
        return unavailable(cell, context, str(error))
    except TunematrixError as error:
        return unjudged(cell, context, str(error))
    except OSError as error:
        return unjudged(cell, context, f"can't write to {shown(context.folder)}: {error}")
    assert record is not None
    return record


def get_ready(cell: Cell, context: RunContext) -> None:
    """Prepare what a cell needs before its line is printed, so that progress appears above it.

    What goes wrong is left to the cell, which has a record to tell it in.
    """
    if context.isolation != "foreground":
        with suppress(Exception):  # whatever it is, the cell meets it again
            carry(Passage(cell), context, steps.READY)


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
