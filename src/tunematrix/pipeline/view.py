"""What a step says while it runs: a line where something happens, and a bar on a terminal."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import TimeRemainingColumn as TimeLeft

from tunematrix.evidence.events import Event, Served, StepBegun, StepDone, StepProgress, StepWarning
from tunematrix.pipeline.screen import EVERY, Screen


class StepView(Screen):
    """Prints as things happen."""

    def __init__(self, console: Console) -> None:
        name = TextColumn("  {task.description}", markup=False)
        super().__init__(console, name, BarColumn(), MofNCompleteColumn(), TimeLeft())
        self._begun = self._told = time.monotonic()

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
        if now - self._told > EVERY or event.done in (1, event.total):
            self._told = now
            left = (now - self._begun) / event.done * (event.total - event.done)
            ending = f", about {left:.0f} s left" if event.done < event.total else ""
            self.line(f"  {event.done} of {event.total} {_described(event)}{ending}")


def _described(event: StepProgress) -> str:
    loss = "" if event.loss is None else f", loss {event.loss:.4g}"
    return f"{event.what}{loss}"
