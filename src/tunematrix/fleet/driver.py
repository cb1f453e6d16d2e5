"""A run's side of a fleet: cells go out as workers get free, records and evidence come in."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from tunematrix.configuration.releases import Installed
from tunematrix.environments.table import Environment
from tunematrix.errors import MachineProblem, TunematrixError
from tunematrix.fleet.address import Address
from tunematrix.fleet.backlog import Backlog
from tunematrix.fleet.certificates import Certificates
from tunematrix.fleet.offer import Identity, resource
from tunematrix.fleet.roster import Roster
from tunematrix.fleet.tickets import Desk, Hears, HearsNothing, Ticket, kept
from tunematrix.fleet.travel import Errand, Terms
from tunematrix.matrix.cells import Cell
from tunematrix.paths import unwritable
from tunematrix.results.outcome import Expected
from tunematrix.results.record import Record
from tunematrix.workflow.context import Carrier, RunContext
from tunematrix.workflow.records import unjudged

if TYPE_CHECKING:
    from tunematrix.fleet.client import Connection, Gone, Unrunnable

PATIENCE = 90.0
"""Seconds that a run waits for a scheduler that has gone."""
_AGAIN = 1.0
_TICK = 0.5
_TRIES = 3


class Fleet(Carrier):
    """The workers at a scheduler, as one run has them.

    Args:
        address: of the scheduler. certificates: of the fleet; None on the loopback alone.
        identity: of this tunematrix and project: only workers of the same get cells.
        environment: whose cells there are. terms: how they are run.
        say: takes lines of progress.
        patience: seconds to wait for a scheduler that has gone.
    """

    def __init__(
        self,
        address: Address,
        certificates: Certificates | None,
        identity: Identity,
        environment: Environment,
        terms: Terms,
        say: Callable[[str], None],
        patience: float = PATIENCE,
    ) -> None:
        self.address = address
        self.terms = terms
        self.roster = Roster(environment.parts or (environment,), identity)
        self._certificates = certificates
        self._identity = identity
        self._say = say
        self._patience = patience
        self._connection: Connection | None = None
        self._desk = Desk()
        self._tickets: dict[str, Ticket] = {}
        self._backlog = Backlog(part.name for part in self.roster.parts)
        self._events: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._pump = threading.Thread(target=self._pumped, name="fleet", daemon=True)
        self._ended = threading.Event()
        self._hopeless = ""

    def open(self) -> None:
        """Connect, and see that each environment has a worker.

        Raises:
            BadInput: what answers is no scheduler of this fleet.
            MachineProblem: none answers; or an environment has no worker of this project.
        """
        self._connect()
        self._look()
        if lacking := self.roster.lacking():
            text = f"no worker for {', '.join(lacking)} at {self.address}"
            start = f"start one there: tunematrix worker {self.address} -e {lacking[0]}"
            again = "bring its checkout to the state of this one, and start the worker again"
            self.close()
            left_out = self.roster.left_out
            advice = again if left_out else start
            raise MachineProblem("\n  ".join([f"{text}; {advice}", *left_out]))
        self._pump.start()

    @property
    def lines(self) -> list[str]:
        """Say which workers there are, and which are left out."""
        return [f"worker {one}" for one in self.roster.offers] + self.roster.left_out

    @property
    def capacity(self) -> int:
        """How many cells run at a time."""
        return sum(self.roster.places(one.name) for one in self.roster.parts)

    def installed(self, backend: str) -> Installed:
        """Return what tells the version of a distribution where a backend's cells run."""
        return self.roster.installed(backend)

    def send(
        self, cells: Iterable[tuple[Cell, tuple[Expected, ...] | None, bool]], heard: Hears
    ) -> None:
        """Have cells run, the first first; each with its known failures, alone or not."""
        tickets = [self._ticket(*cell, heard) for cell in cells]
        for ticket in tickets:
            self._tickets[ticket.errand.cell.id] = ticket
        self._events.put(lambda: self._enqueue(tickets))

    def carry(self, cell: Cell, context: RunContext) -> Record:
        """Have a cell run unless it was sent already, and return its record."""
        if cell.id not in self._tickets:
            self.send([(cell, None, False)], HearsNothing())
        try:
            answer = self._desk.wait(self._tickets[cell.id])
        finally:
            self._tickets.pop(cell.id, None)
        if isinstance(answer, str):
            return unjudged(cell, context, answer)
        try:
            return kept(answer, cell, context)
        except TunematrixError as error:
            return unjudged(cell, context, str(error))
        except OSError as error:
            return unjudged(cell, context, str(unwritable(context.folder, error)))

    def interrupt(self) -> None:
        """End all that runs for this run."""
        self._ended.set()
        self._events.put(self._cancel)

    def close(self) -> None:
        """Leave the fleet; what runs for this run there is ended."""
        self._ended.set()
        self._events.put(None)
        if self._pump.is_alive():
            self._pump.join(timeout=15)
        if self._connection is not None:
            self._connection.close()

    def _work(self) -> None:
        """Do what has happened, one thing after the other; the body of a thread."""
        while True:
            try:
                event = self._events.get(timeout=_TICK)
            except queue.Empty:
                self._top_up()
                continue
            while event is not None:
                event()
                if self._events.empty():
                    break
                event = self._events.get()
            if event is None:
                self._cancel()
                return
            self._top_up()

    def _pumped(self) -> None:
        """Do what `_work` does; whatever goes wrong there, no cell is waited for in vain."""
        try:
            self._work()
        except Exception as error:  # noqa: BLE001 - a bug, which each cell has to say
            self._give_up(f"internal error, please report it: {type(error).__name__}: {error}")
            while (event := self._events.get()) is not None:
                event()

    def _ticket(
        self, cell: Cell, expected: tuple[Expected, ...] | None, alone: bool, heard: Hears
    ) -> Ticket:
        wants = cell.spec.relation is not None
        backend = cell.axes["backend"]
        environment = next(one.name for one in self.roster.parts if backend in one.backends)
        errand = Errand(self.terms, cell, expected, alone=alone, wants_evidence=wants)
        return Ticket(errand, environment, heard)

    def _enqueue(self, tickets: Iterable[Ticket]) -> None:
        for ticket in tickets:
            if self._ended.is_set():
                self._desk.settle(ticket, KeyboardInterrupt())
            elif self._hopeless:
                self._desk.settle(ticket, self._hopeless)
            else:
                self._backlog.append(ticket)

    def _top_up(self) -> None:
        """Hand the scheduler as many cells as workers have places, and a few that follow."""
        from tunematrix.fleet.client import FleetTask

        if self._ended.is_set() or self._connection is None:
            return
        if self._connection.is_lost:
            self._lose()
            return
        if self.roster.is_old():
            self._look()
        tasks, tickets = [], []
        for ticket in self._backlog.send(self.roster.places):
            tickets.append(ticket)
            needs = resource(ticket.environment, self._identity)
            tasks.append(FleetTask(ticket.key, ticket.errand.to_text(), needs))
        if not tasks:
            return
        try:
            self._connection.send(tasks)
        except Exception:  # noqa: BLE001 - Dask raises many kinds where the scheduler is gone
            self._lose()
            return
        for ticket in tickets:
            ticket.heard.begun(ticket.errand.cell.id)

    def _arrived(self, key: str, answer: bytes | Unrunnable | Gone) -> None:
        self._events.put(lambda: self._take(key, answer))

    def _take(self, key: str, answer: bytes | Unrunnable | Gone) -> None:
        from tunematrix.fleet.client import Gone, Unrunnable

        ticket = self._backlog.sent(key)
        if ticket is None:
            return  # of a scheduler that has gone
        if isinstance(answer, Gone):
            self._lose()
            return
        self._backlog.come_back(key)
        if isinstance(answer, Unrunnable):
            self._desk.settle(ticket, answer.reason)
            if answer.lacks_worker:
                self._abandon(ticket.environment, answer.reason)
        elif answer:
            self._desk.settle(ticket, answer)
        elif ticket.tries < _TRIES:
            self._backlog.put_back(ticket)
        else:
            text = f"workers took it {_TRIES} times, and gave it back without a result"
            self._desk.settle(ticket, f"{text}; see what they say on their terminals")

    def _lose(self) -> None:
        """Find the scheduler again, and send what was under way; or give all of it up."""
        if self._ended.is_set():
            return
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self._backlog.recall()
        self._say(f"the scheduler at {self.address} has gone; waiting for it")
        deadline = time.monotonic() + self._patience
        while not self._ended.is_set():
            try:
                self._connect()
            except TunematrixError as error:
                if time.monotonic() > deadline or not isinstance(error, MachineProblem):
                    self._give_up(f"the scheduler has gone, and did not come back: {error}")
                    return
                self._ended.wait(_AGAIN)
            else:
                self._say(f"the scheduler at {self.address} is back")
                self.roster.forget()
                return

    def _give_up(self, reason: str) -> None:
        self._say(reason)
        self._hopeless = reason
        for ticket in self._backlog.drop_all():
            self._desk.settle(ticket, reason)

    def _abandon(self, environment: str, reason: str) -> None:
        """Give up what waits for an environment that has had no worker for so long."""
        self._look()
        if self.roster.places(environment):
            return
        for ticket in self._backlog.drop(environment):
            self._desk.settle(ticket, reason)

    def _cancel(self) -> None:
        if self._connection is not None and self._backlog.is_out:
            self._connection.cancel()
        for ticket in self._backlog.drop_all():
            self._desk.settle(ticket, KeyboardInterrupt())

    def _connect(self) -> None:
        from tunematrix.fleet.client import Connection

        self._connection = Connection(self.address, self._certificates, self._arrived)

    def _look(self) -> None:
        assert self._connection is not None
        self.roster.look(self._connection)
