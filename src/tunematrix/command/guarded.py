"""The driver's side of the guard: a job goes in, an outcome comes out."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from tunematrix.errors import MachineProblem
from tunematrix.paths import python_path
from tunematrix.run.executor import Poll

MARK = "TUNEMATRIX_COMMAND"
"""Variable by which all processes of a command are known, even of one whose guard was killed."""
_GUARD = "tunematrix.command.guard"
_LOST = "the process that guards the command was killed, or failed as guard.log says"
_TICK = 0.1
# A guard ends its command within 30 s; one that takes longer is stuck itself.
_GUARD_SECONDS = 40.0


@dataclass(frozen=True)
class Process:
    """One process that the guard starts: its words, its variables, and where it prints to."""

    words: tuple[str, ...]
    variables: Mapping[str, str]
    stdout: str
    stderr: str


@dataclass(frozen=True)
class CommandRun:
    """What the guard runs.

    Attributes:
        processes: all at the same time. folder: in which they are started.
        timeout: seconds that they may take; gpu: whether their GPU memory is measured.
        together: how many are to train together, whoever starts them.
        library: beginning of the name of a shared library that is looked for; empty for none.
    """

    processes: tuple[Process, ...]
    folder: str
    timeout: float
    gpu: bool = False
    together: int = 1
    library: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of it.

    Attributes:
        codes: exit code of each process; below 0, the signal that ended it.
        failed: numbers of the processes that failed before any was ended by us.
        timed_out: whether the time limit was reached. leftovers: command lines that outlived it.
        seconds: how long it ran. resident: peak of its memory, in bytes.
        gpu: peak of its GPU memory, in bytes; None where nothing can say. gpu_method: how read.
        world: how many processes were told to train together; None where nothing was seen of it.
        loaded: whether one of them had that library; None where nothing can say.
        unstartable: why the command couldn't be started. problem: what went wrong around it.
    """

    codes: tuple[int | None, ...] = ()
    failed: tuple[int, ...] = ()
    timed_out: bool = False
    leftovers: tuple[str, ...] = ()
    seconds: float = 0.0
    resident: int = 0
    gpu: int | None = None
    gpu_method: str = ""
    world: int | None = None
    loaded: bool | None = None
    unstartable: str | None = None
    problem: str | None = None


class Guard:
    """A guard that is started at once and given its job later, as a context.

    When the context is left, nothing of the job is running any more.

    Args:
        log: where the guard's own errors go; there is no such file if it has none.

    Raises:
        MachineProblem: no process can be started.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._mark = f"{os.getpid()}-{time.monotonic_ns()}"
        self._clean = True
        with log.open("ab") as errors:
            self._process = _start(errors.fileno(), self._mark)

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, *_: object) -> None:
        _end(self._process)
        if not self._clean:
            _clear(self._mark)
        if self._log.exists() and not self._log.stat().st_size:
            self._log.unlink()

    def run(self, job: CommandRun, poll: Poll) -> Outcome:
        """Have the job run; return when nothing of it is left running.

        Args:
            job: what to run.
            poll: called about ten times a second with the seconds that have passed.

        Raises:
            KeyboardInterrupt: the user's, from `poll`.
        """
        self._clean = False
        outcome = _await(self._process, _line(job, self._mark), job.timeout, poll)
        self._clean = outcome.problem is None
        return outcome


def _start(errors: int, mark: str) -> subprocess.Popen[str]:
    variables = {**os.environ, "PYTHONPATH": python_path(), MARK: mark}
    try:
        return subprocess.Popen(
            [sys.executable, "-S", "-m", _GUARD],
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
    except OSError as error:
        text = f"can't start a process: {error.strerror}; free memory, or end other processes"
        raise MachineProblem(text) from error


def _line(job: CommandRun, mark: str) -> str:
    fields = asdict(job)
    for process in fields["processes"]:
        process["variables"] = {**process["variables"], MARK: mark}
    return json.dumps(fields) + "\n"


def _await(guard: subprocess.Popen[str], line: str, timeout: float, poll: Poll) -> Outcome:
    """Wait for the guard's word."""
    started = time.monotonic()
    assert guard.stdin is not None and guard.stdout is not None
    with suppress(BrokenPipeError):
        guard.stdin.write(line)
        guard.stdin.flush()
    while (passed := time.monotonic() - started) < timeout + _GUARD_SECONDS:
        poll(passed)
        readable, _, _ = select.select([guard.stdout], [], [], _TICK)
        if not readable:
            continue
        answer = guard.stdout.readline()
        if not answer:
            return Outcome(seconds=passed, problem=_LOST)
        fields: dict[str, object] = json.loads(answer)
        lists = {key: tuple(value) for key, value in fields.items() if isinstance(value, list)}
        return Outcome(**{**fields, **lists})  # type: ignore[arg-type]
    return Outcome(seconds=passed, problem="the process that guards the command hangs")


def _end(guard: subprocess.Popen[str]) -> None:
    """A closed pipe is word for the guard to end what it runs."""
    for pipe in (guard.stdin, guard.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
    try:
        guard.wait(_GUARD_SECONDS)
    except subprocess.TimeoutExpired:
        guard.kill()
        guard.wait()


def _clear(mark: str) -> None:
    """End what a guard that was killed has left."""
    for process in _marked(mark):
        with suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)


def _marked(mark: str) -> Sequence[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark:
                found.append(process)
    return found
