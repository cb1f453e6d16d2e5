"""All that one run of a cell left behind, read from its run directory, for the checks to judge."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

from tunematrix.errors import BadInput
from tunematrix.evidence.events import Event
from tunematrix.evidence.files import open_regular
from tunematrix.evidence.log import read_events
from tunematrix.evidence.run_dir import RunDir
from tunematrix.evidence.secrets import mask_file, masked, secrets_in
from tunematrix.evidence.watched import WatchedProcess, read_probes

_KEPT_BYTES = 2_000_000

Kind = TypeVar("Kind", bound=Event)


@dataclass(frozen=True)
class Exit:
    """How a cell's process ended.

    Attributes:
        code: exit code; None when a signal ended it.
        signal: name of that signal, such as "SIGKILL"; None when there was none.
        timed_out: the time limit was reached, and the process ended from outside.
        leftovers: command lines of processes that the cell left running; they have been ended.
        seconds: wall time from the start of the process to its end.
        isolation: how the process was made: "forkserver", "spawn", "foreground" or "command".
        problem: what went wrong around the cell rather than in it, such as a killed fork
            server; None when nothing did. The cell itself is not to blame then.
    """

    code: int | None
    signal: str | None
    timed_out: bool
    leftovers: tuple[str, ...]
    seconds: float
    isolation: Literal["forkserver", "spawn", "foreground", "command"]
    problem: str | None = None


@dataclass(frozen=True)
class Evidence:
    """What one run of a cell left behind.

    Attributes:
        exit: how its process ended.
        events: what it wrote down, in order.
        stdout: what it printed; the middle of a huge log is left out.
        stderr: what it printed as errors, likewise.
        files: what it saved, relative to its output folder, sorted.
        watched: what the probe wrote in each of its processes, where it was watched.
    """

    exit: Exit
    events: tuple[Event, ...]
    stdout: str
    stderr: str
    files: tuple[str, ...]
    watched: tuple[WatchedProcess, ...] = ()

    def one(self, kind: type[Kind]) -> Kind | None:
        """The last event of this kind, None when there is none."""
        return next((event for event in reversed(self.events) if isinstance(event, kind)), None)

    def all(self, kind: type[Kind]) -> tuple[Kind, ...]:
        """All events of this kind, in order."""
        return tuple(event for event in self.events if isinstance(event, kind))


def collect(run_dir: RunDir, end: Exit) -> Evidence:
    """Reads what a cell left behind, without secrets: logs are masked. What isn't there is empty.

    Raises:
        BadInput: `events.jsonl` is malformed, or the cell has put something else in the place of
            a log: what was printed then isn't known.
    """
    secrets = secrets_in(os.environ)
    others = (*run_dir.path.glob("rank-*/*.log"), *run_dir.probe.glob("*.jsonl"))
    # What a cell was told to do has its credentials in clear until it has been done.
    for log in (run_dir.cell, run_dir.stdout, run_dir.stderr, *others):
        mask_file(log, secrets)
    leftovers = tuple(masked(command, secrets) for command in end.leftovers)
    problem = None if end.problem is None else masked(end.problem, secrets)
    return Evidence(
        exit=replace(end, leftovers=leftovers, problem=problem),
        events=read_events(run_dir.events) if run_dir.events.exists() else (),
        stdout=masked(_read_log(run_dir.stdout), secrets),
        stderr=masked(_read_log(run_dir.stderr), secrets),
        files=_files_below(run_dir.output),
        watched=read_probes(run_dir.probe),
    )


def _read_log(path: Path) -> str:
    """A log as text, its middle left out when it is more than twice `_KEPT_BYTES` long."""
    if not os.path.lexists(path):
        return ""
    try:
        opened = open_regular(path)
        if path.is_symlink():
            opened.close()
            raise OSError(f"{path.name} is a link")
    except OSError as error:
        raise BadInput(
            f"{path}: can't be read ({error}). The cell has put something else there, so what it "
            "printed isn't known; see what its recipe does in its own folder."
        ) from error
    with opened as log:
        head = log.read(2 * _KEPT_BYTES)
        cut = os.fstat(log.fileno()).st_size - 2 * _KEPT_BYTES
        if cut > 0:
            log.seek(-_KEPT_BYTES, os.SEEK_END)
            note = f"\n[... {cut} bytes of {path.name} left out ...]\n".encode()
            head = head[:_KEPT_BYTES] + note + log.read(_KEPT_BYTES)
    return head.decode("utf-8", errors="replace")


def _files_below(folder: Path) -> tuple[str, ...]:
    return tuple(
        sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    )
