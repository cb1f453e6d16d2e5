"""One command of the project called as a real process, and what its ending says."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from tunematrix.errors import MachineProblem
from tunematrix.inspection.examine import QUIET
from tunematrix.paths import files_below

TRACEBACK = "Traceback (most recent call last):"
_CAUSE = "The above exception was the direct cause of the following exception:"
_CONTEXT = "During handling of the above exception, another exception occurred:"
_FRAME = re.compile(r'^\s*File "([^"<>]+)", line (\d+)', re.MULTILINE)
VARIABLES = {
    "ACCELERATE_USE_CPU": "true",
    "COMET_MODE": "disabled",
    "CUDA_VISIBLE_DEVICES": "",
    "DO_NOT_TRACK": "1",
    "HYDRA_FULL_ERROR": "1",  # or Hydra says neither file nor line
    "MPLBACKEND": "Agg",
    "NEPTUNE_MODE": "debug",
    "PYTHONUNBUFFERED": "1",
    "WANDB_MODE": "disabled",
}


@dataclass(frozen=True)
class Ending:
    """How a process ended.

    Attributes:
        code: its exit code. timed_out: whether it was ended since it took too long.
        left: command lines of what outlived it. seconds: that it took.
    """

    code: int
    timed_out: bool
    left: tuple[str, ...]
    seconds: float


def call(
    command: Sequence[str],
    root: Path,
    folder: Path,
    output: Path,
    variables: Mapping[str, str],
    timeout: float,
) -> Ending:
    """Run a command in the project's folder, and end all that is left of it.

    Args:
        command: its arguments. root: the project. folder: takes the logs.
        output: where it is to write. variables: of the environment, over those always set.
        timeout: seconds that it may take.

    Raises:
        MachineProblem: it can't be started.
    """
    tops = [str(top) for top in (root / "src", root) if top.is_dir()]
    inherited = os.environ.get("PYTHONPATH")
    environment = {
        **QUIET,
        **os.environ,
        **VARIABLES,
        "MLFLOW_TRACKING_URI": (output / "mlruns").as_uri(),
        "PYTHONPATH": os.pathsep.join([*tops, *([inherited] if inherited else [])]),
        **variables,
    }
    began = time.monotonic()
    with (folder / "stdout.log").open("wb") as out, (folder / "stderr.log").open("wb") as err:
        process = _started(command, root, environment, out, err)
        below = set[psutil.Process]()
        try:
            timed_out = _wait(process, timeout, below)
        finally:
            left = _end(process, below)
    return Ending(process.returncode, timed_out, left, time.monotonic() - began)


def _started(
    command: Sequence[str],
    root: Path,
    environment: Mapping[str, str],
    out: IO[bytes],
    err: IO[bytes],
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    except OSError as error:
        message = f"{command[0]} can't be started: {error.strerror}; check the installation"
        raise MachineProblem(message) from error


def _wait(process: subprocess.Popen[bytes], timeout: float, below: set[psutil.Process]) -> bool:
    """Wait for a process, noting what it starts; return whether it took too long."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        with suppress(psutil.NoSuchProcess):
            below |= set(psutil.Process(process.pid).children(recursive=True))
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
            return False
    return True


def _session(leader: int) -> Iterator[psutil.Process]:
    """Yield what lives of a session: children of a process that ended before it was looked at."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != leader and os.getsid(process.pid) == leader:
                yield process


def _end(process: subprocess.Popen[bytes], below: set[psutil.Process]) -> tuple[str, ...]:
    """End a process and all that it started; return what had outlived it."""
    outlived = process.poll() is not None
    with suppress(psutil.NoSuchProcess):
        below |= set(psutil.Process(process.pid).children(recursive=True))
    below |= set(_session(process.pid))
    # Helpers that notice by themselves that their parent has ended get a moment to follow.
    _, alive = psutil.wait_procs(below, timeout=2.0 if outlived else 0.0)
    names = []
    for one in alive:
        with suppress(psutil.Error):
            names.append(" ".join(one.cmdline())[:120] or one.name())
            one.kill()
    with suppress(ProcessLookupError):
        process.kill()
    process.wait()
    psutil.wait_procs(alive, timeout=5.0)
    return tuple(names) if outlived else ()


def blame(stderr: str, root: Path) -> tuple[str, tuple[Path, int] | None]:
    """Return the exception that a traceback tells of, and the project's last line on its way.

    Of an exception that others were raised from, the first; None for a traceback without a line
    of the project.
    """
    if TRACEBACK not in stderr:
        return "", None
    last = stderr.rpartition(_CONTEXT)[2]
    first = next((part for part in last.split(_CAUSE) if TRACEBACK in part), last)
    first = first[first.index(TRACEBACK) :] if TRACEBACK in first else first
    raised = ""
    for row in first.splitlines()[1:]:
        if row and not row[0].isspace():
            raised = row.strip()
            break
    frames = [(Path(name), int(line)) for name, line in _FRAME.findall(first)]
    own = [(file, line) for file, line in frames if _is_own(file, root)]
    return raised, own[-1] if own else None


def _is_own(file: Path, root: Path) -> bool:
    if not file.is_relative_to(root):
        return False
    parts = file.relative_to(root).parts
    return "site-packages" not in parts and not any(part.startswith(".") for part in parts)


def project_files(root: Path) -> set[str]:
    """Return all files of a project but for hidden ones and bytecode."""
    files = files_below(root, (".*", "__pycache__", "*.egg-info"))
    return {str(file.relative_to(root)) for file in files if not file.name.startswith(".")}
