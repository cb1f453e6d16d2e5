"""The executor of trainers' commands: no fork server, and no library of a backend is imported."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tunematrix.command import repository
from tunematrix.command.distributions import Distributions
from tunematrix.command.guarded import CommandRun, Guard, Outcome
from tunematrix.command.invocation import Invocation
from tunematrix.command.logs import write_log
from tunematrix.command.ranks import blamed, gather, launched_by
from tunematrix.command.serving import serve_and_score
from tunematrix.command.template import shown_value
from tunematrix.errors import BadInput, MachineProblem
from tunematrix.evidence import Exit
from tunematrix.evidence.events import (
    Command,
    DeviceMemory,
    Finished,
    LibraryLoaded,
    Memory,
    Raised,
    Repository,
    Started,
)
from tunematrix.evidence.log import EventLog
from tunematrix.evidence.run_dir import RunDir
from tunematrix.matrix.requirements import missing_modules
from tunematrix.paths import state
from tunematrix.run.executor import Executor, Poll

NOT_STARTED = 127
"""What a shell ends with, too, where it can't start a command."""


class Commands(Executor):
    """Cells that are a trainer's command: a guard runs it, and its evidence is read here."""

    def __init__(self) -> None:
        self._interrupted = threading.Event()
        self._running: list[_Run] = []
        self._lock = threading.Lock()
        self._distributions = Distributions()

    def start(self) -> None:
        """Do nothing: there is nothing to share between commands."""

    def missing(self, modules: Sequence[str]) -> tuple[str, ...]:
        """Return those of these modules that can't be imported in this virtualenv."""
        return missing_modules(modules)

    def run(self, run_dir: RunDir, timeout: float, poll: Poll | None = None) -> Exit:
        """Run the command of a folder, and write down what it left.

        Raises:
            BadInput: a fault is to be planted in it.
        """
        cell = run_dir.read_cell()
        if cell.faults:
            text = f"{', '.join(cell.faults)} can't be planted in a command"
            raise BadInput(f"{text}; faults act on the libraries inside our own processes")
        run_dir.events.unlink(missing_ok=True)
        invocation = Invocation(cell.config, run_dir)
        run = _Run(cell.cell_id, invocation, timeout, self._poll(poll))
        with EventLog(run_dir.events) as events, self._beside(run):
            versions = self._distributions.of(invocation)
            trainer = {"trainer": invocation.command.trainer}
            events.write(Started(os.getpid(), trainer, dict(versions)))
            return run.end(events)

    def call(
        self, name: str, arguments: Mapping[str, object], timeout: float, run_dir: RunDir
    ) -> Exit:
        """Refuse: a command needs no preparation of ours."""
        raise MachineProblem(f"{name} can't be called where commands run; please report it")

    def interrupt(self) -> None:
        """End all that other threads run here; each of them gets a KeyboardInterrupt."""
        self._interrupted.set()

    def describe(self) -> dict[str, object]:
        """Say that each command is a process of its own."""
        return {"isolation": "command", "reason": "a command imports its own libraries"}

    def close(self) -> None:
        """Do nothing: nothing outlives a cell."""

    @contextmanager
    def _beside(self, run: _Run) -> Iterator[None]:
        """Have the runs in one repository know of each other while they last."""
        with self._lock:
            root = run.invocation.command.root
            others = [one for one in self._running if one.invocation.command.root == root]
            for one in others:
                one.beside.add(run.cell_id)
            run.beside.update(one.cell_id for one in others)
            self._running.append(run)
        try:
            yield
        finally:
            with self._lock:
                self._running.remove(run)

    def _poll(self, poll: Poll | None) -> Poll:
        def ask(seconds: float) -> None:
            if self._interrupted.is_set():
                raise KeyboardInterrupt
            if poll is not None:
                poll(seconds)

        return ask


class _Run:
    """One run of one command.

    Args:
        cell_id: of its cell. invocation: what is run. timeout: seconds that it may take.
        poll: of whoever waits.

    Attributes:
        beside: the cells that ran in the same repository at some time of it.
    """

    def __init__(self, cell_id: str, invocation: Invocation, timeout: float, poll: Poll) -> None:
        self.cell_id = cell_id
        self.invocation = invocation
        self.timeout = timeout
        self.poll = poll
        self.beside: set[str] = set()

    def end(self, events: EventLog) -> Exit:
        """Run it, write down what it left, and return how it ended."""
        invocation = self.invocation
        command = invocation.command
        arguments = invocation.config.dynamic_args.items()
        events.write(
            Command(
                words=invocation.words,
                folder=_relative(invocation.folder, command.root),
                processes=invocation.processes,
                arguments={name: shown_value(value) for name, value in arguments},
            )
        )
        besides = state(Path(command.root)).resolve()
        with Guard(invocation.run_dir.path / "guard.log") as guard:
            before = repository.take(Path(command.project_dir), besides)
            since = time.time()
            outcome = self._outcome(guard)
        gather(invocation)
        write_memory(outcome, events)
        if outcome.loaded is not None:
            library = invocation.config.backend.library
            events.write(LibraryLoaded(library, outcome.loaded))
        if outcome.unstartable is None and outcome.problem is None:
            write_log(invocation, since, events)
        if ended_well(outcome):
            serve_and_score(invocation, events, self.poll)
        changed = repository.changes(before, repository.take(Path(command.project_dir), besides))
        paths = tuple(_relative(Path(path), command.root) for path in changed)
        events.write(Repository(paths, before.way, tuple(sorted(self.beside))))
        self._write_end(outcome, events)
        return exit_of(outcome)

    def _outcome(self, guard: Guard) -> Outcome:
        invocation = self.invocation
        folder = invocation.folder
        if not folder.is_dir():
            return Outcome(unstartable=f"there is no folder {folder} to start it in")
        gpu = invocation.config.backend.cuda
        started, together = invocation.started, invocation.processes
        library = invocation.config.backend.library
        job = CommandRun(started, str(folder), self.timeout, gpu, together, library)
        return guard.run(job, self.poll)

    def _write_end(self, outcome: Outcome, events: EventLog) -> None:
        if outcome.unstartable is not None:
            words = self.invocation.words
            advice = (
                f"install what brings it into this environment, or correct `command` of the "
                f"trainer {self.invocation.command.trainer} in pyproject.toml"
            )
            text = f"{words[0]} can't be started: {outcome.unstartable}; {advice}"
            events.write(Raised("command", ("OSError", "Exception"), text))
        elif ended_well(outcome):
            if (launched := launched_by(self.invocation, outcome)) is not None:
                events.write(launched)
            events.write(Finished())
        elif self.invocation.processes > 1 and (rank := blamed(self.invocation, outcome)):
            events.write(rank)


def write_memory(outcome: Outcome, events: EventLog) -> None:
    """Write down what the processes of a command took of memory."""
    if outcome.resident:
        method = "largest sum of the processes' resident memory, read 20 times a second"
        events.write(Memory("process_peak", outcome.resident, method))
    if outcome.gpu is not None:
        events.write(DeviceMemory(outcome.gpu, outcome.gpu_method))


def ended_well(outcome: Outcome) -> bool:
    """Return whether a command ran, and all of its processes ended with 0."""
    is_whole = outcome.unstartable is None and outcome.problem is None and not outcome.timed_out
    return is_whole and bool(outcome.codes) and not any(outcome.codes)


def exit_of(outcome: Outcome) -> Exit:
    """Return how a command ended: with several processes, that of the first that failed."""
    codes = outcome.codes
    first = outcome.failed[0] if outcome.failed else 0
    code = codes[first] if codes else None
    if outcome.unstartable is not None:
        code = NOT_STARTED
    return Exit(
        code=code if code is not None and code >= 0 else None,
        signal=_signal_name(-code) if code is not None and code < 0 else None,
        timed_out=outcome.timed_out,
        leftovers=outcome.leftovers,
        seconds=outcome.seconds,
        isolation="command",
        problem=outcome.problem,
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _relative(path: Path, root: str) -> str:
    return os.path.relpath(path, root) if path.is_relative_to(root) else str(path)
