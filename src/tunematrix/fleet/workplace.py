"""A worker's own machine: each cell that comes is run in its environment, and packed up."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tunematrix.baselines.kept import read_baselines
from tunematrix.command.trainers import read_trainers
from tunematrix.errors import TunematrixError
from tunematrix.evidence.run_dir import RunDir
from tunematrix.fleet.travel import Errand, Terms, pack
from tunematrix.matrix.capabilities import of_release
from tunematrix.matrix.cells import Cell
from tunematrix.paths import made, state
from tunematrix.project import Project
from tunematrix.results.outcome import Expected
from tunematrix.results.record import Record
from tunematrix.run.executor import Executor
from tunematrix.run.local.executors import Choice
from tunematrix.workflow.cells import known_failures, run_cell
from tunematrix.workflow.context import RunContext
from tunematrix.workflow.here import executor_here
from tunematrix.workflow.holding import hold, remove_unless_held
from tunematrix.workflow.records import record_of, unjudged

WORKERS = "workers"
"""Where workers keep what they are at, below the folder of all that runs leave."""

Wanted = Callable[[], bool]
"""Whether somebody still waits for a result; asked about ten times a second."""
Say = Callable[[str], None]


class Unwanted(Exception):
    """Nobody waits for the result any more; the cell has been ended."""


class Workplace:
    """Runs cells for a fleet, several at once, with what is imported once for all of them.

    Args:
        project: the worker's, with the environment whose cells it runs.
        name: of the worker. isolation: how cells are kept apart.
        say: takes lines of progress.
    """

    def __init__(self, project: Project, name: str, isolation: Choice, say: Say) -> None:
        self.project = project
        self.name = name
        self.folder = state(project.root) / WORKERS / name
        self._isolation: Choice = isolation
        self._say = say
        self.executor: Executor = executor_here(project.environment, project.groups, isolation, say)
        self._contexts: dict[Terms, RunContext] = {}
        self._busy: dict[Terms, int] = {}
        self._lock = threading.Lock()
        self._quiet = _Quiet()
        self._running = threading.local()
        self._closed = threading.Event()
        self._held = claimed(self.folder)

    def perform(self, errand: Errand, wanted: Wanted) -> bytes:
        """Run the cell of an errand, and return its record with its evidence where that is needed.

        Raises:
            Unwanted: nobody waits for it any more.
        """
        cell = errand.cell
        with self._quiet.kept(alone=errand.alone), self._context(errand.terms) as context:
            self._running.wanted = wanted
            run_dir = context.run_dir(cell.id)
            try:
                if not wanted():
                    raise Unwanted
                record = self._record(errand, context)
                needed = record.is_bad or errand.wants_evidence or errand.terms.keep_output
                there = needed and run_dir.path.is_dir()
                return self._packed(record, run_dir if there else None)
            except KeyboardInterrupt:
                raise Unwanted from None
            finally:
                # It may come again, if what was sent back is lost on its way.
                shutil.rmtree(run_dir.path, ignore_errors=True)

    def context(self, terms: Terms) -> RunContext:
        """Return what the cells of a run share here."""
        project, environment = self.project, self.project.environment
        return RunContext(
            environment=environment,
            groups=project.groups,
            run_id=terms.run_id,
            root=project.root,
            isolation=self._isolation,
            faults=terms.faults,
            keep_output=terms.keep_output,
            say=self._say,
            watch=terms.watch,
            here=self.executor,
            own_folder=self.folder,
            poll=self._poll,
            trainers=read_trainers(project.root),
            baselines=read_baselines(project.groups.roots, environment.name, strict=terms.strict),
        )

    def close(self) -> None:
        """End all that runs here, and remove what was kept meanwhile."""
        self._closed.set()
        self.executor.interrupt()
        with self._lock:
            for context in self._contexts.values():
                context.interrupt()
                context.close(prune=False)
        self.executor.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._held)

    def _record(self, errand: Errand, context: RunContext) -> Record:
        cell, groups = errand.cell, self.project.groups
        declared = of_release(groups.known_here.limits, cell.place)
        if declared is not None and errand.expected is None:
            fields = {"outcome": "unsupported", "reason": declared.reason, "link": declared.link}
            return self._named(record_of(cell, context, **fields))
        try:
            record = run_cell(cell, context, self._expected(errand, cell))
        except TunematrixError as error:
            record = unjudged(cell, context, str(error))
        return self._named(record)

    def _expected(self, errand: Errand, cell: Cell) -> tuple[Expected, ...]:
        if errand.expected is not None:
            return errand.expected
        return known_failures(cell, self.project.groups.known_here)

    def _named(self, record: Record) -> Record:
        """Say in a record which worker it is of."""
        machine = {**record.machine, "worker": self.name}
        return Record(**{**vars(record), "machine": machine})

    def _packed(self, record: Record, run_dir: RunDir | None) -> bytes:
        try:
            return pack(record, run_dir)
        except OSError as error:
            reason = f"{record.reason}; its evidence can't be read on {self.name}: {error}"
            return pack(Record(**{**vars(record), "reason": reason.lstrip("; ")}), None)

    def _poll(self, seconds: float) -> None:
        del seconds
        wanted: Wanted = getattr(self._running, "wanted", _is_ours)
        if self._closed.is_set() or not wanted():
            raise KeyboardInterrupt

    @contextmanager
    def _context(self, terms: Terms) -> Iterator[RunContext]:
        """Keep what cells of one run share as long as some of them run, and a little longer."""
        with self._lock:
            if terms not in self._contexts:
                for ended in [one for one in self._contexts if not self._busy[one]]:
                    self._contexts.pop(ended).close(prune=True)
                    shutil.rmtree(self.folder / "runs" / ended.run_id, ignore_errors=True)
                self._contexts[terms] = self.context(terms)
            self._busy[terms] = self._busy.get(terms, 0) + 1
            context = self._contexts[terms]
        try:
            yield context
        finally:
            with self._lock:
                self._busy[terms] -= 1


def _is_ours() -> bool:
    """A trial of this machine's own is always wanted."""
    return True


class _Quiet:
    """Lets many run at once, or one alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._waiting_alone = 0

    @contextmanager
    def kept(self, *, alone: bool) -> Iterator[None]:
        """Run beside others, or, once these have ended, alone."""
        with self._changed:
            if alone:
                self._waiting_alone += 1
                self._changed.wait_for(lambda: not self._running)
                self._waiting_alone -= 1
                self._running = -1
            else:
                self._changed.wait_for(lambda: self._running >= 0 and not self._waiting_alone)
                self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running = 0 if alone else self._running - 1
                self._changed.notify_all()


def claimed(folder: Path) -> int:
    """Make a worker's folder, and hold it as long as this process runs; return what holds it.

    What workers have left that were killed is removed.
    """
    made(folder)
    for other in folder.parent.iterdir():
        if other != folder:
            remove_unless_held(other)
    return hold(folder, shared=False)
