"""The fork server: started with the modules that cells need, watched, and started again."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

import psutil

from tunematrix.errors import MachineProblem
from tunematrix.run import worker
from tunematrix.run.local import guard, preload
from tunematrix.run.local.process_tree import is_alive

_FIRST_REPORT_SECONDS = 60.0
_END_SECONDS = 5.0
_TICK = 0.02


class PreloadFailed(MachineProblem):
    """The fork server did not survive its imports; the text says which, and how."""


@dataclass(frozen=True)
class Preloaded:
    """What the fork server said of its imports.

    Attributes:
        pid: its process id.
        seconds: wall time by module, in the order of import.
        failed: error by module, for those that could not be imported.
        importing: module that is under way; None when all are done.
    """

    pid: int
    seconds: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    importing: str | None = None


class ServerProcess:
    """Python's own fork server, of which a process has one, with our preloaded modules.

    Args:
        modules: what it imports, in this order, after what each cell needs.
        folder: for its report.
        limit: seconds that all imports may take.

    Attributes:
        preloaded: what it said of its imports; None before the first start.
    """

    def __init__(self, modules: Sequence[str], folder: Path, limit: float = 600) -> None:
        self.preloaded: Preloaded | None = None
        self._modules = (guard.__name__, worker.__name__, *modules)
        self._limit = limit
        self._report = folder / "preload.json"
        self._process: psutil.Process | None = None

    @property
    def process(self) -> psutil.Process | None:
        """Its process; None before the first start and after `stop`."""
        return self._process

    def ensure(self) -> bool:
        """Starts it unless it runs, and waits for its imports; True when it was started.

        Raises:
            PreloadFailed: an import hung, or ended the fork server.
            MachineProblem: the fork server could not be started at all.
        """
        if self._process is not None and is_alive(self._process):
            if self._process.status() != psutil.STATUS_STOPPED:
                return False
            self.stop()  # whoever waited for it would wait for ever
        self._report.unlink(missing_ok=True)
        multiprocessing.get_context("forkserver").set_forkserver_preload([preload.__name__])
        variables = {
            preload.MODULES: json.dumps(self._modules),
            preload.REPORT: str(self._report),
            # Forked cells share a hash seed; a fixed one is also that of a cell run by hand.
            "PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED", "0"),
        }
        with _environment(variables), _interrupts_wait():
            forkserver.ensure_running()
        self._process = psutil.Process(self._await_first_report().pid)
        self.preloaded = self._await_imports(self._process)
        return True

    def stop(self) -> None:
        """Ends it; a later `ensure` starts a new one."""
        if self._process is None:
            return
        with suppress(psutil.NoSuchProcess):
            self._process.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + _END_SECONDS
        # multiprocessing starts another one only once the old one is dead.
        while is_alive(self._process) and time.monotonic() < deadline:
            time.sleep(_TICK)
        self._process = None

    def _await_first_report(self) -> Preloaded:
        deadline = time.monotonic() + _FIRST_REPORT_SECONDS
        while time.monotonic() < deadline:
            if self._report.exists():
                return self._read_report()
            time.sleep(_TICK)
        raise MachineProblem(
            f"The fork server said nothing within {_FIRST_REPORT_SECONDS:.0f} s. Likely cause: "
            f"{sys.executable} can't import {preload.__name__}, because tunematrix is not "
            "installed in this environment but found through sys.path. Install it "
            "(python -m pip install -e .)."
        )

    def _await_imports(self, process: psutil.Process) -> Preloaded:
        deadline = time.monotonic() + self._limit
        while (report := self._read_report()).importing is not None:
            if not is_alive(process):
                log = self._report.with_suffix(".log").read_text("utf-8", "replace")
                last = "".join(f"; {line}" for line in log.splitlines()[-1:])
                raise PreloadFailed(f"importing {report.importing} ended the fork server{last}")
            if time.monotonic() > deadline:
                self.stop()
                raise PreloadFailed(f"importing {report.importing} hung ({self._limit:g} s)")
            time.sleep(_TICK)
        return report

    def _read_report(self) -> Preloaded:
        return Preloaded(**json.loads(self._report.read_text(encoding="utf-8")))


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Let Ctrl-C reach neither this process nor what is started inside, until that ignores it.

    Otherwise a Python that has just begun would print where it was.
    """
    resource_tracker.ensure_running()  # or that, started inside, would let them through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables for what is started inside."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
