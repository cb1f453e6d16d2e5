"""Spec files as pytest's collectors, cells as its items."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunematrix.harness import KEY
from tunematrix.matrix.cells import Cell
from tunematrix.report import terminal
from tunematrix.results.record import Record
from tunematrix.workflow import declared_failures, known_failures, run_cell, unjudged


class CellFailed(Exception):
    """Ends the item of a cell that isn't good; its text is the whole report.

    Attributes:
        reason: the cell's, in one line.
    """

    def __init__(self, report: str, reason: str) -> None:
        super().__init__(report)
        self.reason = reason.partition("\n")[0]


class SpecFile(pytest.File):
    """One spec file; its cells are its items."""

    def collect(self) -> Iterator[CellItem]:
        """Yield the cells that this file plans; probes too where they are asked for."""
        harness = self.config.stash[KEY]
        for cell in harness.plan.cells:
            if cell.spec.source.path == self.path:
                yield CellItem.from_parent(self, name=cell.id, cell=cell)
        for exclusion in harness.plan.exclusions if harness.probes else ():
            if exclusion.cell.spec.source.path == self.path:
                item = CellItem.from_parent(self, name=exclusion.cell.id, cell=exclusion.cell)
                item.expected = declared_failures(exclusion)
                item.add_marker("probe")
                yield item


class CellItem(pytest.Item):
    """One cell."""

    def __init__(self, *, cell: Cell, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cell = cell
        self.expected = known_failures(cell)
        self.record: Record | None = None
        for marker in cell.spec.markers:
            self.add_marker(marker)

    def runtest(self) -> None:
        """Take the cell the whole way; raise unless its outcome is a good one."""
        harness = self.config.stash[KEY]
        self.record = record = run_cell(self.cell, harness.workshop, self.expected)
        missed = record.outcome == "unavailable" and harness.must_be_whole
        if missed or record.outcome in ("failed", "error"):
            again = harness.again(record, is_probe=self.get_closest_marker("probe") is not None)
            raise CellFailed(terminal.failure(record, again), record.reason)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show what was measured, not where in pytest it was raised."""
        if not isinstance(excinfo.value, CellFailed):
            # A bug, in a check perhaps: its traceback is shown from here on, and it is on record.
            reason = f"a bug: {excinfo.exconly()}"
            self.record = unjudged(self.cell, self.config.stash[KEY].workshop, reason)
            excinfo.traceback = excinfo.traceback.cut(path=Path(__file__))
            return super().repr_failure(excinfo, style)
        shown = excinfo.getrepr(style="value")
        if shown.reprcrash is not None:
            # What short summaries and JUnit show of it, with the place that they point to.
            shown.reprcrash.path, shown.reprcrash.lineno = str(self.path), 1
            shown.reprcrash.message = excinfo.value.reason
        return shown

    def reportinfo(self) -> tuple[Path, int, str]:
        """Point to the spec."""
        return self.path, 0, self.cell.id
