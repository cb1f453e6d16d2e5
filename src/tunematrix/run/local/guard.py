"""One small process between the fork server and each worker: Assignment in, Exit out.

It computes nothing, so it can always act: at the time limit, when the driver or the fork server
is killed, and when the worker is stuck in native code. All orphans of the cell become its
children, so what it finds below itself is the cell's, and nothing else is.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess, SpawnProcess
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal

from tunematrix.evidence import Exit
from tunematrix.run.local.process_tree import ProcessTree, become_subreaper

Isolation = Literal["forkserver", "spawn"]

_TICK = 0.1
_DUMP_SECONDS = 2.0
# Helpers that notice by themselves that their parent has ended get this long to follow.
_LEFTOVER_SECONDS = 2.0


@dataclass(frozen=True)
class Assignment:
    """What to run, and under which conditions.

    Attributes:
        function: body of the process, `worker.main` or `worker.call`.
        arguments: its arguments.
        stdout: file that takes what the process prints.
        stderr: file that takes what it prints as errors; may be the same.
        timeout: seconds that it may take.
        isolation: "forkserver" forks the process from this one, "spawn" starts a fresh Python.
    """

    function: Callable[..., None]
    arguments: tuple[object, ...]
    stdout: Path
    stderr: Path
    timeout: float
    isolation: Isolation


def main(assignment: Assignment, driver: Connection) -> None:
    """Body of the guard: runs the assignment, sends its Exit; a closed connection means stop."""
    os.setsid()
    _redirect(assignment.stdout, assignment.stderr)
    end = _run(assignment, driver)
    # A driver that is gone, or has hung up, wants no answer.
    with suppress(OSError):
        driver.send(end)


def _run(assignment: Assignment, driver: Connection) -> Exit:
    tree = ProcessTree(complete=become_subreaper())
    start: type[BaseProcess] = ForkProcess if assignment.isolation == "forkserver" else SpawnProcess
    process = start(target=assignment.function, args=assignment.arguments)
    started = time.monotonic()
    process.start()
    verdict = _watch(process, assignment.timeout, driver, tree)
    if verdict == "timed out":
        _dump_threads(process)
    seconds = time.monotonic() - started
    leftovers = tree.outlasting(_LEFTOVER_SECONDS) if verdict == "ended" else ()
    survivors = tree.end()
    code = process.exitcode
    tree.reap()
    problems = [] if verdict in ("ended", "timed out") else [verdict]
    problems += [f"could not be ended: {command}" for command in survivors]
    return Exit(
        code=code if code is not None and code >= 0 else None,
        signal=_signal_name(-code) if code is not None and code < 0 else None,
        timed_out=verdict == "timed out",
        leftovers=leftovers,
        seconds=seconds,
        isolation=assignment.isolation,
        problem="; ".join(problems) or None,
    )


def _watch(process: BaseProcess, timeout: float, driver: Connection, tree: ProcessTree) -> str:
    """Waits for the process to end; says what happened first."""
    fork_server = os.getppid()
    deadline = time.monotonic() + timeout
    while process.exitcode is None:
        if driver.poll():
            return "the driver ended"
        if os.getppid() != fork_server:
            return "the fork server was killed while the cell ran; the next cell starts a new one"
        if time.monotonic() > deadline:
            return "timed out"
        if not tree.complete:
            tree.living()
        # The exit code decides, not the sentinel: a forked grandchild keeps that one open.
        wait([process.sentinel, driver], timeout=_TICK)
    return "ended"


def _dump_threads(process: BaseProcess) -> None:
    """Has faulthandler write where each thread of the worker hangs."""
    if process.pid is None:
        return
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGUSR1)
    deadline = time.monotonic() + _DUMP_SECONDS
    while process.exitcode is None and time.monotonic() < deadline:
        time.sleep(_TICK)


def _redirect(stdout: Path, stderr: Path) -> None:
    """Points the standard streams at files, for this process and all that it starts."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    for path, descriptor in ((stdout, 1), (stderr, 2)):
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, descriptor)
        os.close(log)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
