"""What a step is given beside its settings: where it computes, and where it says what happens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tunematrix.configuration import Configuration
from tunematrix.evidence.events import StepDone, StepProgress, StepWarning
from tunematrix.evidence.log import EventLog


@dataclass(frozen=True)
class StepJob:
    """One step of one run.

    Attributes:
        name: the step's: sft, dpo, generate, serve.
        config: the cell's; its backend is claimed by then, and its quantizer is the step's.
        events: takes what happens.
        output_dir: for what the step makes, and there by then unless `dry_run`.
        resume: checkpoint to go on from: a folder, or latest; empty to begin.
        dry_run: whether everything is read and checked, and nothing is trained or written.
    """

    name: str
    config: Configuration
    events: EventLog
    output_dir: Path
    resume: str = ""
    dry_run: bool = False

    @property
    def device(self) -> str:
        """The framework's name of the device."""
        return self.config.backend.device

    def warn(self, text: str) -> None:
        """Say something that a user should know."""
        self.events.write(StepWarning(self.name, text))

    def progress(self, what: str, done: int, total: int) -> None:
        """Say how far it is, in units of `what`."""
        self.events.write(StepProgress(self.name, what, done, total))

    @contextmanager
    def said(self, line: Line) -> Iterator[None]:
        """Measure the step, and end it with the line that was set meanwhile."""
        started = time.perf_counter()
        yield
        self.events.write(StepDone(self.name, time.perf_counter() - started, line.text))


@dataclass
class Line:
    """What a step says at its end."""

    text: str = ""
