"""What a step says while it runs: a line where something happens, and a bar on a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.progress import TimeRemainingColumn as TimeLeft

from tunematrix.evidence.events import Event, Served, StepBegun, StepDone, StepProgress, StepWarning
from tunematrix.pipeline.settings import redacted
from tunematrix.report.text import printable

_EVERY = 30.0
"""Seconds between two lines about a long step, where there is no terminal."""


class StepView:
    """Prints as things happen."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("  {task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeLeft(),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._begun = self._told = time.monotonic()

    @contextmanager
    def open(self) -> Iterator[None]:
        """Draw the bar meanwhile, on a terminal."""
        if not self._console.is_terminal:
            yield
            return
        with self._bar:
            yield

    def line(self, text: str) -> None:
        """Print one line, whatever is in it, above the bar."""
        self._console.print(
            printable(redacted(text)), markup=False, highlight=False, soft_wrap=True
        )

    def event(self, event: Event) -> None:
        """Show what is for a user's eyes."""
        if isinstance(event, StepBegun):
            over = f" over {event.base}" if event.adapter else ""
            self.line(f"{event.name}: {event.model}{over}")
            self.line(f"  {event.does}; writes to {event.output_dir}")
            self._begun = self._told = time.monotonic()
        elif isinstance(event, StepWarning):
            self.line(f"  warning: {event.text}")
        elif isinstance(event, Served):
            took = f"ready after {event.ready_seconds:.1f} s"
            self.line(f"  {took}: {event.url}, by the model name {event.model}")
        elif isinstance(event, StepProgress):
            self._progress(event)
        elif isinstance(event, StepDone):
            self.line(f"  {event.says} ({event.seconds:.1f} s)")

    def _progress(self, event: StepProgress) -> None:
        if self._console.is_terminal:
            if self._task is None:
                self._task = self._bar.add_task(event.what, total=event.total)
            self._bar.update(
                self._task,
                completed=event.done,
                total=event.total,
                description=_described(event),
            )
            return
        now = time.monotonic()
        if now - self._told > _EVERY or event.done in (1, event.total):
            self._told = now
            left = (now - self._begun) / event.done * (event.total - event.done)
            ending = f", about {left:.0f} s left" if event.done < event.total else ""
            self.line(f"  {event.done} of {event.total} {_described(event)}{ending}")


def _described(event: StepProgress) -> str:
    loss = "" if event.loss is None else f", loss {event.loss:.4g}"
    return f"{event.what}{loss}"
