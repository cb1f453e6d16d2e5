"""A cell on its way to a worker and back: what is sent, and what is kept of the answer."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from tunematrix.evidence.run_dir import RunDir
from tunematrix.fleet.travel import Errand, unpack
from tunematrix.matrix.cells import Cell
from tunematrix.paths import shown
from tunematrix.project import spec_name
from tunematrix.results.record import Record
from tunematrix.workflow.context import RunContext
from tunematrix.workflow.records import unjudged

Answer: TypeAlias = bytes | str | BaseException
"""What a worker has sent, or why nothing does, or what ended the run."""


class Hears(Protocol):
    """Whoever has sent cells, and is told by their ids what becomes of them, from any thread."""

    def begun(self, cell: str) -> None:
        """Take note that a cell has been handed to the scheduler."""

    def arrived(self, cell: str) -> None:
        """Take note that `carry` need not wait any more for a cell's record."""

    @property
    def is_behind(self) -> bool:
        """Whether results have come faster than they are taken."""


class HearsNothing(Hears):
    """Nobody, where whoever sends a cell waits for it."""

    def begun(self, cell: str) -> None:
        """Begin nothing."""

    def arrived(self, cell: str) -> None:
        """Await nothing."""

    @property
    def is_behind(self) -> bool:
        """It isn't."""
        return False


@dataclass(eq=False, slots=True)
class Ticket:
    """A cell on its way; a run may have a hundred thousand.

    Attributes:
        errand: what is sent. environment: where to. heard: who is told of it.
        answer: None until there is one. tries: how often it was sent.
    """

    errand: Errand
    environment: str
    heard: Hears
    answer: Answer | None = None
    tries: int = 0

    @property
    def key(self) -> str:
        """What Dask calls it: another name each time."""
        return f"{self.errand.terms.run_id}/{self.errand.cell.id}/{self.tries}"


class Desk:
    """Where answers are put and waited for."""

    def __init__(self) -> None:
        self._changed = threading.Condition()

    def settle(self, ticket: Ticket, answer: Answer) -> None:
        """Answer a ticket, once."""
        with self._changed:
            if ticket.answer is not None:
                return
            ticket.answer = answer
            self._changed.notify_all()
        ticket.heard.arrived(ticket.errand.cell.id)

    def wait(self, ticket: Ticket) -> bytes | str:
        """Wait for an answer, and return it; raise it where the run has been ended."""
        with self._changed:
            self._changed.wait_for(lambda: ticket.answer is not None)
        answer = ticket.answer
        if isinstance(answer, BaseException):
            raise answer
        assert answer is not None
        return answer


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
