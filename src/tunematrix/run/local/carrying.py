"""One process of the fork server's for one assignment: it goes in, an Exit comes out."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import psutil

from tunematrix.evidence import Exit
from tunematrix.run.executor import Poll
from tunematrix.run.local import guard
from tunematrix.run.local.guard import Assignment
from tunematrix.run.local.process_tree import ProcessTree, become_subreaper, descendants, is_alive

_TICK = 0.1
# A guard ends its cell within 25 s; one that takes longer is stuck itself.
_GUARD_SECONDS = 40.0
# The kernel needs a moment to end a worker whose guard was killed.
_FOLLOW_SECONDS = 1.0


class _GuardLost(Exception):
    """No Exit will come for this assignment; the text says why."""


class Guards:
    """The guards that are at work, so that what is left of one isn't mistaken for another's.

    Args:
        server: returns the process that they are forked from, where it runs.
    """

    def __init__(self, server: Callable[[], psutil.Process | None]) -> None:
        self._server = server
        self._at_work: set[int] = set()
        self._lock = threading.Lock()

    def begin(self, process: BaseProcess) -> None:
        """Starts one."""
        with self._lock:
            try:
                process.start()
            except (ConnectionError, EOFError) as error:
                text = "the fork server was killed before it could fork the cell"
                raise _GuardLost(text) from error
            if process.pid is not None:
                self._at_work.add(process.pid)

    def end(self, process: BaseProcess) -> None:
        """Takes note that one has ended, or has to."""
        with self._lock:
            self._at_work.discard(process.pid or 0)

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """Keeps others waiting while a fork server starts, or a clean-up would end it as a rest."""
        with self._lock:
            yield

    def others(self) -> set[psutil.Process]:
        """The fork server, the guards at work, and all that is below these."""
        with self._lock:
            server = self._server()
            processes = set() if server is None else {server}
            for pid in self._at_work:
                with suppress(psutil.NoSuchProcess):
                    processes |= {psutil.Process(pid), *descendants(pid)}
            return processes


def carry_out(assignment: Assignment, guards: Guards, poll: Poll) -> Exit:
    """Has a guard run the assignment, and cleans up after a guard that could not.

    `poll` is called about ten times a second with the seconds that have passed.
    """
    tree = ProcessTree(complete=become_subreaper(), others=guards.others)
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=guard.main, args=(assignment, theirs))
    started = time.monotonic()
    end = problem = None
    try:
        guards.begin(process)
        theirs.close()
        end = _await_exit(process, ours, assignment.timeout, poll)
        problem = end.problem
    except _GuardLost as lost:
        problem = str(lost)
    finally:
        theirs.close()
        # A guard that is still at work takes this as word to end its cell.
        ours.close()
        if process.pid is not None:
            process.join(_GUARD_SECONDS)
        guards.end(process)
        clean = end is not None and problem is None
        leftovers = () if clean else _clear(tree)
    if end is not None:
        return end
    seconds = time.monotonic() - started
    return Exit(None, None, False, leftovers, seconds, assignment.isolation, problem)


def _await_exit(process: BaseProcess, answers: Connection, timeout: float, poll: Poll) -> Exit:
    """Waits for the guard's word."""
    started = time.monotonic()
    alive = True
    while alive and (passed := time.monotonic() - started) < timeout + _GUARD_SECONDS:
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


def _clear(tree: ProcessTree) -> tuple[str, ...]:
    """Ends what a cell without a guard left running; returns the command lines."""
    leftovers = tree.outlasting(_FOLLOW_SECONDS)
    tree.end()
    tree.reap()
    return leftovers
