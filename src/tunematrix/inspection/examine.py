"""Has a process of its own examine configs: paths in, reports out, whatever that process does."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tunematrix.errors import MachineProblem, ending
from tunematrix.inspection.reports import ConfigReport, unpacked
from tunematrix.inspection.tree import config_files
from tunematrix.paths import python_path

STEP_SECONDS = 300.0
"""A step that takes longer hangs."""
RESTARTS = 8
LAST_LINES = 8
QUIET = {
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "HYDRA_FULL_ERROR": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "WANDB_MODE": "disabled",
    "WANDB_SILENT": "true",
}
"""Variables of the process: no GPU, no tracker, no network."""

OnProgress = Callable[[str, int, int], None]
"""Takes what is counted, how many are done, and how many there are."""


def examine(
    paths: Sequence[Path],
    *,
    instantiate: bool = False,
    forward: bool = False,
    progress: OnProgress | None = None,
    step_seconds: float = STEP_SECONDS,
) -> tuple[ConfigReport, ...]:
    """Check all configs below some paths, without training.

    Args:
        paths: files and folders.
        instantiate: whether to build the objects that configs name.
        forward: whether to run each model once as well.
        progress: called now and then.
        step_seconds: how long importing a module, or building an object, may take.

    Returns:
        A report for each file.

    Raises:
        BadInput: a path isn't there, or the project's settings are wrong.
        NothingTested: a folder holds no config.
        MachineProblem: the process that examines can't be started, or ends again and again.
    """
    config_files(paths)  # says at once what is wrong with the paths
    request = {"instantiate": instantiate or forward, "forward": forward}
    return tuple(_examined(paths, request, progress, step_seconds).reports)


def compose_config(file: Path) -> Composed:
    """Compose one config and resolve it, importing nothing that it names.

    Raises:
        BadInput, MachineProblem: as `examine`.
    """
    attempt = _examined([file], {"targets": False, "values": True}, None, STEP_SECONDS)
    (report,) = attempt.reports[:1]
    return Composed(report, attempt.values, frozenset(attempt.followers))


@dataclass(frozen=True)
class Composed:
    """A config with its values.

    Attributes:
        report: what was found out about it. values: plain data; empty where it can't be composed.
        followers: dotted keys whose value refers to another key, or to what Hydra knows.
    """

    report: ConfigReport
    values: Mapping[str, Any]
    followers: frozenset[str]


def _examined(
    paths: Sequence[Path],
    asked: Mapping[str, bool],
    progress: OnProgress | None,
    step_seconds: float,
) -> _Attempt:
    """Have the process started again, without what ended it, until it comes to its end."""
    files = [str(path.resolve()) for path in paths]
    request: dict[str, Any] = {"paths": files, "crashed": {}, **asked}
    for _ in range(RESTARTS):
        attempt = _attempt(request, progress, step_seconds)
        if attempt.ended:
            return attempt
        if not attempt.step or attempt.step in request["crashed"]:
            break
        # Once more, without the step that the process didn't survive.
        request["crashed"][attempt.step] = attempt.how
    text = f"the process that examines configs {attempt.how}"
    during = f" while {attempt.step}" if attempt.step else ""
    raise MachineProblem(f"{text}{during}; the end of what it printed:\n{attempt.last_words}")


@dataclass
class _Attempt:
    """How far one process came."""

    reports: list[ConfigReport] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    followers: list[str] = field(default_factory=list)
    ended: bool = False
    step: str = ""
    how: str = ""
    last_words: str = ""

    def take(self, event: dict[str, Any], progress: OnProgress | None) -> None:
        if "report" in event:
            self.reports.append(unpacked(event["report"]))
        elif "values" in event:
            self.values, self.followers = event["values"], event["followers"]
        elif "step" in event:
            self.step = event["step"]
        elif "done" in event and progress is not None:
            progress(event["what"], event["done"], event["total"])
        elif "end" in event:
            self.ended = True


def _attempt(request: dict[str, Any], progress: OnProgress | None, patience: float) -> _Attempt:
    attempt = _Attempt()
    with tempfile.TemporaryDirectory(prefix="tunematrix-check-") as folder:
        file, log = Path(folder, "request.json"), Path(folder, "log")
        file.write_text(json.dumps(request), encoding="utf-8")
        with log.open("wb") as output, _started(file, output) as (process, events):
            for line in _lines(events, patience):
                if line is None:
                    attempt.how = f"was silent for {patience:.0f} s and was ended"
                    break
                attempt.take(json.loads(line), progress)
            else:
                attempt.how = ending(process.wait())
        words = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    attempt.last_words = "\n".join(words[-LAST_LINES:])
    return attempt


@contextlib.contextmanager
def _started(file: Path, output: IO[bytes]) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """Start the process in a session of its own; end all of that session afterwards."""
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "tunematrix.inspection.examiner", str(file), str(writing)]
    environment = {**os.environ, **QUIET, "PYTHONPATH": python_path()}
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            pass_fds=[writing],
            start_new_session=True,
        )
    except OSError as error:
        os.close(reading)
        raise MachineProblem(f"no process can be started to examine configs: {error}") from error
    finally:
        os.close(writing)
    try:
        with open(reading, "rb") as events:  # noqa: PTH123 - a descriptor has no path
            yield process, events
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _lines(events: IO[bytes], patience: float) -> Iterator[bytes | None]:
    """Yield whole lines as they come; None once nothing has come for too long."""
    rest, heard = b"", time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(events, selectors.EVENT_READ)
        while True:
            if not selector.select(timeout=1.0):
                if time.monotonic() - heard > patience:
                    yield None
                    return
                continue
            chunk = os.read(events.fileno(), 65536)
            heard = time.monotonic()
            *whole, rest = (rest + chunk).split(b"\n")
            yield from whole
            if not chunk:
                return
