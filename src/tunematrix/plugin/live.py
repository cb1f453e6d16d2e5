"""A run that is watched: the matrix fills in at the bottom of the terminal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TextIO, cast

import pytest

from tunematrix.plugin.items import CellItem, SpecItem
from tunematrix.plugin.schedule import Job, Progress
from tunematrix.plugin.suite import Suite
from tunematrix.report.region import Region
from tunematrix.report.rows import SYMBOLS, Place, place_of
from tunematrix.report.standing import SIGNS, Standing, screen
from tunematrix.report.terminal import render
from tunematrix.results.record import Outcome, backend_of
from tunematrix.workflow.records import telling_axes

CI = ("CI", "BUILD_NUMBER")
"""Variables by which machines that nobody watches say so; pytest goes by the same."""


def can_be_watched(config: pytest.Config) -> bool:
    """Return whether a terminal is there to draw on, and neither lines nor silence were asked for.

    Called while pytest is being configured, when it doesn't hold back what is printed.
    """
    file = sys.stdout
    if config.get_verbosity() != 0 or any(os.environ.get(name) for name in CI):
        return False
    if not file.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return False
    try:
        "".join([*SYMBOLS.values(), *(sign for sign, _ in SIGNS.values())]).encode(file.encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


class LiveView:
    """How far a run is, for somebody who watches it; as a context, for as long as cells run.

    While it is drawn, pytest's own line for each item isn't: it would say the same. Where nobody
    watches, a line says how far it is, now and then.

    Args:
        suite: the run's; jobs: all of it, with their items; progress: how far it has come.
    """

    def __init__(self, suite: Suite, jobs: Mapping[Job, SpecItem], progress: Progress) -> None:
        self.suite = suite
        self._jobs = jobs
        self._progress = progress
        self._reporter: Any = suite.config.pluginmanager.get_plugin("terminalreporter")
        self._region: Region | None = None
        self._outcomes: dict[str, Outcome] = {}
        self._places: dict[str, Place] = {}
        self._is_importing = False

    def __enter__(self) -> Self:
        if self.suite.is_watched and self._reporter is not None:
            self._places = self._planned_places()
            self._region = Region(self._reporter._tw._file)
            self._reporter._tw._file = cast(TextIO, self._region.above)
            self._reporter.showfspath = False
            self.suite.is_drawn = True
            self.draw()
        elif self._reporter is not None:
            self._reporter.flush()  # what has been collected; a file has it before the first cell
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._region is None:
            return
        if error is None:
            self.draw()
            self._region.leave()
        else:
            self._region.erase()
        self._reporter._tw._file = self._region.above.file
        self._reporter.showfspath = None
        self.suite.is_drawn = False

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Show that the libraries are imported, for as long as that takes; or say it once."""
        self._is_importing = True
        self.draw()
        if self._region is None and self.suite.config.get_verbosity() >= 0:
            self.suite.say("importing the libraries, once for all cells")
        try:
            yield
        finally:
            self._is_importing = False

    def end(self, job: Job) -> None:
        """Take note of what a job has come to, and show it; or tell now and then how far it is."""
        self._progress.end(job)
        record = self._jobs[job].record
        self._outcomes[job.id] = "error" if record is None else record.outcome
        self.draw()
        line = self._progress.line()
        if line and self._region is None and self.suite.config.get_verbosity() >= 0:
            self.suite.say(line)

    def draw(self) -> None:
        """Show how the run stands; nothing where nobody watches."""
        if self._region is None:
            return
        size = self._region.size
        lines = screen(self._standing(), size.columns, size.lines)
        colour = self._reporter.hasmarkup
        self._region.draw(
            [render(line, size.columns, colour=colour).rstrip("\n") for line in lines],
            [line.cell_len for line in lines],
        )

    def _standing(self) -> Standing:
        now = time.monotonic()
        running = {
            job.id: now - job.started
            for job in self._jobs
            if job.started is not None and job.id not in self._outcomes
        }
        left, total = self._progress.left(), len(self._jobs)
        return Standing(
            self._places, self._outcomes, running, total, left, is_importing=self._is_importing
        )

    def _planned_places(self) -> dict[str, Place]:
        """Return where each cell stands; those that are unsupported stand there from the start."""
        context = self.suite.context
        cells = [item.cell for item in self._jobs.values() if isinstance(item, CellItem)]
        specs, tried = {cell.spec.source.path for cell in cells}, {cell.id for cell in cells}
        for exclusion in self.suite.plan.exclusions:
            if exclusion.cell.spec.source.path in specs and exclusion.cell.id not in tried:
                cells.append(exclusion.cell)
                self._outcomes[exclusion.cell.id] = "unsupported"
        return {
            cell.id: place_of(backend_of(cell.axes), telling_axes(cell, context)) for cell in cells
        }
