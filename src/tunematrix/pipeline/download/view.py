"""What a download says: a line a file, with a bar on a terminal while it is fetched."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from tunematrix.errors import counted
from tunematrix.hub.events import Begun, Done, Got, Listed, ModelOrder
from tunematrix.paths import shown
from tunematrix.pipeline.screen import EVERY, Screen
from tunematrix.report.text import one_line

_UNITS = ("B", "kB", "MB", "GB", "TB")


def size(count: float) -> str:
    """Return a number of bytes with its unit, powers of 1000: `59.0 MB`."""
    unit = 0
    while count >= 999.95 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.0f} B" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"


class DownloadView(Screen):
    """Prints as things happen."""

    def __init__(self, console: Console) -> None:
        name = TextColumn("  {task.description}", markup=False)
        speed = TransferSpeedColumn()
        super().__init__(console, name, BarColumn(), DownloadColumn(), speed, TimeRemainingColumn())
        self._sizes: dict[str, int] = {}
        self._width = 0
        self._told = 0.0

    def listed(self, found: Listed, order: ModelOrder, *, dry_run: bool) -> None:
        """Say what is fetched, from where and to where."""
        total = sum(file.size for file in found.files)
        would = "would put" if dry_run else "puts"
        files = f"{len(found.files)} of its {counted(found.total, 'file')}, {size(total)},"
        self.line(f"{order.repo} at {order.revision}: commit {found.commit}")
        self.line(f"{would} {files} into {shown(Path(order.output_dir))}")
        self._width = max(len(one_line(file.path)) for file in found.files)
        if dry_run:
            for file in found.files:
                self.line(self._row(file.path, size(file.size)))

    def begun(self, message: Begun) -> None:
        """Start the bar of a file."""
        self._sizes[message.path] = message.size
        self._told = time.monotonic()
        if self._console.is_terminal:
            name = one_line(message.path)
            self._task = self._bar.add_task(name, total=message.size)

    def got(self, message: Got) -> None:
        """Move the bar; without a terminal, a line now and then."""
        if self._task is not None:
            self._bar.update(self._task, completed=message.received)
        elif not self._console.is_terminal and time.monotonic() - self._told > EVERY:
            self._told = time.monotonic()
            whole = size(self._sizes.get(message.path, 0))
            self.line(self._row(message.path, f"{size(message.received)} of {whole}"))

    def done(self, message: Done) -> None:
        """Print the line of a file."""
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
        deed = "there already" if message.deed == "there" else message.deed
        self.line(f"{self._row(message.path, size(message.size))}  {deed}")

    def _row(self, path: str, rest: str) -> str:
        return f"  {one_line(path):{self._width}}  {rest:>9}"
