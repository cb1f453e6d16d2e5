"""What the views of all steps share: lines on a terminal, and a bar below them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, ProgressColumn, TaskID

from tunematrix.evidence.secrets import redacted
from tunematrix.report.text import printable

EVERY = 30.0
"""Seconds between two lines about something long, where there is no terminal."""


class Screen:
    """Prints as things happen.

    Args:
        console: to print on. columns: of the bar.
    """

    def __init__(self, console: Console, *columns: ProgressColumn) -> None:
        self._console = console
        self._bar = Progress(*columns, console=console, transient=True)
        self._task: TaskID | None = None

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
