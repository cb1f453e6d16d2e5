"""The executors of this machine: each cell forked from preloaded modules, or in a fresh Python."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from tunematrix.errors import MachineProblem
from tunematrix.evidence import Exit, collect
from tunematrix.evidence.events import Raised
from tunematrix.evidence.run_dir import RunDir
from tunematrix.matrix.requirements import missing_modules
from tunematrix.run import worker
from tunematrix.run.executor import Executor, Poll
from tunematrix.run.foreground import Foreground
from tunematrix.run.local.carrying import Guards, carry_out
from tunematrix.run.local.fork_server import PreloadFailed, ServerProcess
from tunematrix.run.local.guard import Assignment, Isolation

Choice = Literal["auto", "forkserver", "spawn", "foreground"]
"""How cells are kept apart; "auto" forks where the imports and the canaries survive that."""

Say = Callable[[str], None]
"""Takes one line of text for each thing that a user waits for or should know."""

_CANARY_SECONDS = 120.0  # of a machine that does much else


class CannotFork(MachineProblem):
    """Cells can't be forked from the preloaded process; the text says why."""


class _GuardedProcesses(Executor):
    """Cells in processes of their own, each with a guard forked by the fork server."""

    isolation: Isolation

    def __init__(self, modules: Sequence[str], say: Say) -> None:
        self._say = say
        self._folder = tempfile.TemporaryDirectory(prefix="tunematrix-")
        self._server = ServerProcess(modules, Path(self._folder.name))
        self._reason = ""
        self._starting = threading.Lock()
        self._interrupted = threading.Event()
        self._guards = Guards(lambda: self._server.process)

    def start(self) -> None:
        """Have the fork server running, for the first time or again, and say what that took."""
        with self._starting, self._guards.untouched():
            again = self._server.preloaded is not None
            if not self._server.ensure() or (preloaded := self._server.preloaded) is None:
                return
            seconds = sum(preloaded.seconds.values())
            first = "imported the libraries once, for all cells"
            what = "the fork server had ended; imported the libraries again" if again else first
            # A fresh Python takes nothing over from what the fork server imports for itself.
            if self.isolation == "forkserver":
                self._say(f"{what}: {len(preloaded.seconds)} modules in {seconds:.1f} s")
            for module, error in preloaded.failed.items():
                self._say(f"could not import {module}: {error}")

    def missing(self, modules: Sequence[str]) -> tuple[str, ...]:
        """Return those of these modules that can't be imported in this virtualenv."""
        return missing_modules(modules)

    def run(self, run_dir: RunDir, timeout: float, poll: Poll | None = None) -> Exit:
        """Run the cell of a folder in a process of its own."""
        return self._carry_out(worker.main, (), timeout, run_dir, poll)

    def call(
        self, name: str, arguments: Mapping[str, object], timeout: float, run_dir: RunDir
    ) -> Exit:
        """Call `module:function` in a process like a cell's."""
        return self._carry_out(worker.call, (name, dict(arguments)), timeout, run_dir)

    def interrupt(self) -> None:
        """End all that other threads run here; each of them gets a KeyboardInterrupt."""
        self._interrupted.set()

    def describe(self) -> dict[str, object]:
        """Say how cells are isolated, why, and what was preloaded in how many seconds."""
        preloaded = self._server.preloaded
        return {
            "isolation": self.isolation,
            "reason": self._reason,
            "seconds": sum(preloaded.seconds.values()) if preloaded else 0.0,
            "modules": dict(preloaded.seconds) if preloaded else {},
            "failed": dict(preloaded.failed) if preloaded else {},
        }

    def close(self) -> None:
        """End the fork server; the executor can't be used again."""
        self._server.stop()
        self._folder.cleanup()

    def _carry_out(
        self,
        body: Callable[..., None],
        arguments: tuple[object, ...],
        timeout: float,
        run_dir: RunDir,
        poll: Poll | None = None,
    ) -> Exit:
        """Run the body of a process with a folder, unless `interrupt` ends it."""

        def poll_here(seconds: float) -> None:
            if self._interrupted.is_set():
                raise KeyboardInterrupt
            if poll is not None:
                poll(seconds)

        self.start()
        logs = (run_dir.stdout, run_dir.stderr)
        all_arguments = (str(run_dir.path), *arguments)
        assignment = Assignment(body, all_arguments, *logs, timeout, self.isolation)
        return carry_out(assignment, self._guards, poll_here)


class ForkServer(_GuardedProcesses):
    """Each cell is forked from a process that has imported the preloaded modules.

    Args:
        preload: modules to import once, in this order.
        canaries: `module:function` of parallel operations, each tried in a forked child first.
        say: takes lines of progress.

    Raises:
        PreloadFailed: an import hung, or ended the fork server.
        CannotFork: a canary didn't live.
        MachineProblem: no process can be started.
    """

    isolation: Isolation = "forkserver"

    def __init__(self, preload: Sequence[str], canaries: Sequence[str] = (), *, say: Say) -> None:
        super().__init__(preload, say)
        self._reason = "the trial processes worked" if canaries else "no trial process was declared"
        try:
            self.start()
            for number, canary in enumerate(canaries):
                self._try(canary, RunDir.create(Path(self._folder.name), f"canary-{number}"))
        except BaseException:
            self.close()
            raise

    def _try(self, canary: str, run_dir: RunDir) -> None:
        evidence = collect(run_dir, self.call(canary, {}, _CANARY_SECONDS, run_dir))
        end, raised = evidence.exit, evidence.one(Raised)
        if end.code == 0:
            return
        if end.problem is not None:
            raise CannotFork(f"the trial process {canary} could not be started: {end.problem}")
        how = "hung" if end.timed_out else f"ended with {end.signal or end.code}"
        last = (
            [f"{raised.exception[0]}: {raised.message}"]
            if raised
            else evidence.stderr.splitlines()[-1:]
        )
        raise CannotFork(": ".join([f"the trial process {canary} {how}", *last]))


class FreshInterpreter(_GuardedProcesses):
    """Each cell gets a fresh Python, which imports everything anew."""

    isolation: Isolation = "spawn"

    def __init__(self, reason: str, *, say: Say) -> None:
        super().__init__((), say)
        self._reason = reason


def open_executor(
    choice: Choice, preload: Sequence[str], canaries: Sequence[str] = (), *, say: Say
) -> Executor:
    """Return the executor that was asked for, its modules imported; "auto" forks where it can.

    Raises:
        MachineProblem: no process can be started, or "forkserver" was demanded in vain.
    """
    if choice == "foreground":
        return Foreground()
    if choice == "spawn":
        return FreshInterpreter("it was asked for", say=say)
    try:
        return ForkServer(preload, canaries, say=say)
    except (PreloadFailed, CannotFork) as refusal:
        if choice == "forkserver":
            raise MachineProblem(
                f"Cells can't be forked here: {refusal}. Run with isolation auto or spawn."
            ) from None
        say(f"cells can't be forked ({refusal}); each starts Python anew, which is slower")
        return FreshInterpreter(str(refusal), say=say)


class LocalExecutor(Executor):
    """This machine: before the first cell it is decided how cells are kept apart.

    Args:
        choice: how. preload, canaries: as of `ForkServer`.
        say: takes lines of progress.
    """

    def __init__(
        self, choice: Choice, preload: Sequence[str], canaries: Sequence[str] = (), *, say: Say
    ) -> None:
        self._open = partial(open_executor, choice, preload, canaries, say=say)
        self._opened: Executor | None = None
        self._opening = threading.Lock()
        self._interrupted = False

    def start(self) -> None:
        """Decide how cells are kept apart, and do what takes its time before the first."""
        self._started().start()

    def missing(self, modules: Sequence[str]) -> tuple[str, ...]:
        """Return those of these modules that can't be imported in this virtualenv."""
        return missing_modules(modules)

    def run(self, run_dir: RunDir, timeout: float, poll: Poll | None = None) -> Exit:
        """Run the cell of a folder."""
        return self._started().run(run_dir, timeout, poll)

    def call(
        self, name: str, arguments: Mapping[str, object], timeout: float, run_dir: RunDir
    ) -> Exit:
        """Call `module:function`."""
        return self._started().call(name, arguments, timeout, run_dir)

    def interrupt(self) -> None:
        """End all that other threads run here."""
        self._interrupted = True
        if self._opened is not None:
            self._opened.interrupt()

    def describe(self) -> dict[str, object]:
        """Say how cells are isolated, and why."""
        return self._started().describe()

    def close(self) -> None:
        """End what was started, if anything was."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _started(self) -> Executor:
        with self._opening:
            if self._opened is None:
                self._opened = self._open()
                if self._interrupted:  # while it was opened
                    self._opened.interrupt()
            return self._opened
