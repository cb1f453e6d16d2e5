"""A cell on its way to a worker and back: what is sent, and what is kept of the answer."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from tunematrix.evidence.run_dir import RunDir
from tunematrix.fleet.travel import Errand, unpack
from tunematrix.matrix.cells import Cell
from tunematrix.paths import shown
from tunematrix.project import spec_name
from tunematrix.results.record import Record
from tunematrix.workflow.context import RunContext
from tunematrix.workflow.records import unjudged

Begun = Callable[[], None]
"""Called when a cell is handed to the scheduler."""


@dataclass(eq=False)
class Ticket:
    """A cell on its way.

    Attributes:
        errand: what is sent. environment: where to. begun: called when that is done.
        answer: what came back, or why nothing does. tries: how often it was sent.
    """

    errand: Errand
    environment: str
    begun: Begun
    answer: Future[bytes | str] = field(default_factory=Future)
    tries: int = 0

    @property
    def key(self) -> str:
        """What Dask calls it: another name each time."""
        return f"{self.errand.terms.run_id}/{self.errand.cell.id}/{self.tries}"


def settle(ticket: Ticket, answer: bytes | str | BaseException) -> None:
    """Answer a ticket, once."""
    if ticket.answer.done():
        return
    if isinstance(answer, BaseException):
        ticket.answer.set_exception(answer)
    else:
        ticket.answer.set_result(answer)


def begin_nothing() -> None:
    """Begin nothing."""


def kept(answer: bytes, cell: Cell, context: RunContext) -> Record:
    """Keep the evidence of a cell where it would lie had it run here; return its record."""
    context.claim_folder()
    run_dir: RunDir = context.run_dir(cell.id)
    record, has_evidence = unpack(answer, run_dir)
    if record.cell_id != cell.id or record.run_id != context.run_id:
        reason = f"a worker sent the record of {record.cell_id} of {record.run_id}"
        return unjudged(cell, context, f"{reason}; please report it")
    source = cell.spec.source.path
    return replace(
        record,
        spec=spec_name(source, context.root) if source else "",
        run_dir=shown(run_dir.path) if has_evidence else "",
    )
