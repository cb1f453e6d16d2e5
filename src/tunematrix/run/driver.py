"""Runs cells one after another: a run directory and a time limit go in, an Exit comes out."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Literal

import psutil

from tunematrix.errors import MachineProblem
from tunematrix.evidence import Exit
from tunematrix.evidence.run_dir import RunDir
from tunematrix.run import guard, worker
from tunematrix.run.guard import Isolation, Order
from tunematrix.run.isolation import ForkServer, PreloadFailed
from tunematrix.run.process_tree import Tree, become_subreaper, is_alive

Poll = Callable[[float], None]

_TICK = 0.1
_CANARY_SECONDS = 60.0
# A guard ends its cell within 10 s; one that takes longer is stuck itself.
_GUARD_SECONDS = 15.0
# The kernel needs a moment to end a worker whose guard was killed.
_FOLLOW_SECONDS = 1.0


class Driver:
    """Gives each cell a process of its own, and takes back whatever it started.

    Cells are forked from a process that has imported the preloaded modules, or, where that
    doesn't work, run in a fresh Python each. One cell at a time; a process has one driver.

    Args:
        preload: modules to import once, in this order.
        isolation: "forkserver", "spawn", or "auto": fork unless the imports or the canary fail.
        canaries: `module:function` of parallel operations, each tried in a forked child before
            the first cell.
        report: takes one line of text for each thing that a user waits for or should know.
    """

    def __init__(
        self,
        preload: Sequence[str],
        isolation: Literal["auto", "forkserver", "spawn"] = "auto",
        canaries: Sequence[str] = (),
        *,
        report: Callable[[str], None],
    ) -> None:
        self._wanted = isolation
        self._canaries = tuple(canaries)
        self._report = report
        self._folder = tempfile.TemporaryDirectory(prefix="tunematrix-")
        self._server = ForkServer(preload, Path(self._folder.name))
        self._isolation: Isolation = "forkserver"
        self._reason = ""

    def __enter__(self) -> Driver:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Preloads and decides how cells are isolated; does nothing when that is done.

        Raises:
            MachineProblem: no process can be started, or "forkserver" was demanded in vain.
        """
        if self._reason:
            return
        refusal = "it was asked for" if self._wanted == "spawn" else self._refusal_to_fork()
        if refusal is None:
            self._reason = "its canaries live" if self._canaries else "no canary was declared"
            return
        if self._wanted == "forkserver":
            raise MachineProblem(
                f"Cells can't be forked here: {refusal}. Run with isolation auto or spawn."
            )
        self._server.stop()
        self._server = ForkServer((), Path(self._folder.name))
        self._isolation, self._reason = "spawn", refusal
        self._report(f"each cell starts a Python of its own: {refusal}")

    def run(self, run_dir: RunDir, timeout: float, poll: Poll | None = None) -> Exit:
        """Runs the cell of a run directory and returns when nothing of it is left running.

        Args:
            run_dir: with cell.json written.
            timeout: seconds that the cell may take, preloading not included.
            poll: called about ten times a second with the seconds that have passed.

        Raises:
            MachineProblem: no process can be started.
            KeyboardInterrupt: the user's, after the cell has been ended.
        """
        self._ensure_server()
        logs = (run_dir.stdout, run_dir.stderr)
        order = Order(worker.main, (str(run_dir.path),), *logs, timeout, self._isolation)
        return _carry_out(order, poll)

    def call(self, name: str, arguments: Mapping[str, object], timeout: float, log: Path) -> Exit:
        """Calls `module:function` with keyword arguments in a process like a cell's.

        For what has to be ready before any clock starts, such as compiling an extension.

        Raises:
            MachineProblem: no process can be started.
            KeyboardInterrupt: the user's, after the process has been ended.
        """
        self._ensure_server()
        order = Order(worker.call, (name, dict(arguments)), log, log, timeout, self._isolation)
        return _carry_out(order)

    def describe(self) -> dict[str, object]:
        """How cells are isolated, why, and what was preloaded in how many seconds."""
        preloaded = self._server.preloaded
        return {
            "isolation": self._isolation,
            "reason": self._reason,
            "seconds": sum(preloaded.seconds.values()) if preloaded else 0.0,
            "modules": dict(preloaded.seconds) if preloaded else {},
            "failed": dict(preloaded.failed) if preloaded else {},
        }

    def close(self) -> None:
        """Ends the fork server; the driver can't be used again."""
        self._server.stop()
        self._folder.cleanup()

    def _ensure_server(self) -> None:
        """Has the fork server running, for the first time or again."""
        self.start()
        self._preload()

    def _preload(self) -> None:
        again = self._server.preloaded is not None
        if not self._server.ensure() or (preloaded := self._server.preloaded) is None:
            return
        seconds = sum(preloaded.seconds.values())
        what = "the fork server had ended; imported its modules again" if again else "imported"
        self._report(f"{what}: {len(preloaded.seconds)} modules in {seconds:.1f} s")
        for module, error in preloaded.failed.items():
            self._report(f"could not import {module}: {error}")

    def _refusal_to_fork(self) -> str | None:
        """Why cells can't be forked from the preloaded process; None when they can."""
        try:
            self._preload()
        except PreloadFailed as error:
            return str(error)
        refusals = (self._refusal_of(canary) for canary in self._canaries)
        return next((refusal for refusal in refusals if refusal is not None), None)

    def _refusal_of(self, canary: str) -> str | None:
        """How a canary ended in a forked process; None when it lives."""
        log = Path(self._folder.name, "canary.log")
        order = Order(worker.call, (canary, {}), log, log, _CANARY_SECONDS, "forkserver")
        end = _carry_out(order)
        if end.code == 0:
            return None
        how = "hung" if end.timed_out else f"ended with {end.signal or end.code}"
        if end.problem is not None:
            return f"the canary {canary} could not be tried: {end.problem}"
        last_lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-1:]
        return ": ".join([f"the canary {canary} {how}", *last_lines])


class _GuardLost(Exception):
    """No Exit will come for this order; the text says why."""


def _carry_out(order: Order, poll: Poll | None = None) -> Exit:
    """Has a guard run the order, and cleans up after a guard that could not."""
    tree = Tree(complete=become_subreaper())
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=guard.main, args=(order, theirs))
    started = time.monotonic()
    end = problem = None
    try:
        _begin(process)
        theirs.close()
        end = _await_exit(process, ours, order.timeout, poll)
        problem = end.problem
    except _GuardLost as lost:
        problem = str(lost)
    finally:
        theirs.close()
        # A guard that is still at work takes this as the order to end its cell.
        ours.close()
        if process.pid is not None:
            process.join(_GUARD_SECONDS)
        clean = end is not None and problem is None
        leftovers = () if clean else _clear(tree)
    if end is not None:
        return end
    seconds = time.monotonic() - started
    return Exit(None, None, False, leftovers, seconds, order.isolation, problem)


def _begin(process: BaseProcess) -> None:
    try:
        process.start()
    except (ConnectionError, EOFError) as error:
        raise _GuardLost("the fork server was killed before it could fork the cell") from error


def _await_exit(
    process: BaseProcess, answers: Connection, timeout: float, poll: Poll | None
) -> Exit:
    """Waits for the guard's word."""
    started = time.monotonic()
    alive = True
    while alive and (passed := time.monotonic() - started) < timeout + _GUARD_SECONDS:
        if poll is not None:
            poll(passed)
        # Looked at before the connection, so that the last word of a guard isn't missed.
        alive = _is_running(process)
        if not answers.poll(_TICK):
            continue
        try:
            answer: Exit = answers.recv()
        except (ConnectionError, EOFError):
            alive = False
        else:
            return answer
    how = "hangs" if alive else "was killed, or failed as stderr.log says"
    raise _GuardLost(f"the process that guards the cell {how}; the cell has been ended")


def _is_running(process: BaseProcess) -> bool:
    # BaseProcess.is_alive() would ask the fork server, which may be gone before its children.
    try:
        return is_alive(psutil.Process(process.pid))
    except psutil.NoSuchProcess:
        return False


def _clear(tree: Tree) -> tuple[str, ...]:
    """Ends what a cell without a guard left running; returns the command lines."""
    leftovers = tree.outlasting(_FOLLOW_SECONDS)
    tree.end()
    tree.reap()
    return leftovers
