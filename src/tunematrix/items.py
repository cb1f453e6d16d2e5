"""Spec files as pytest's collectors, cells as its items."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunematrix.errors import TunematrixError
from tunematrix.harness import KEY
from tunematrix.matrix.cells import Cell
from tunematrix.report import terminal
from tunematrix.results.outcome import Expected
from tunematrix.results.record import Record
from tunematrix.workflow import run_cell


class CellFailed(Exception):
    """Carries a cell's record to its report."""

    def __init__(self, record: Record) -> None:
        super().__init__(record.reason)
        self.record = record


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
                item.expected = Expected(
                    exclusion.raises, exclusion.check, exclusion.reason, exclusion.link
                )
                item.add_marker("probe")
                yield item


class CellItem(pytest.Item):
    """One cell."""

    def __init__(self, *, cell: Cell, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cell = cell
        self.expected: Expected | None = None
        self.record: Record | None = None
        for marker in cell.spec.markers:
            self.add_marker(marker)

    def runtest(self) -> None:
        """Take the cell the whole way; raise unless its outcome is a good one."""
        self.record = run_cell(self.cell, self.config.stash[KEY].workshop, self.expected)
        if self.record.outcome in ("failed", "error"):
            raise CellFailed(self.record)
        if self.record.outcome == "unavailable" and self.required():
            raise CellFailed(self.record)

    def required(self) -> bool:
        """Whether this environment must be whole."""
        wanted = self.config.getoption("tunematrix_require")
        return self.config.stash[KEY].workshop.environment.name in wanted

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show what was measured, not where in pytest it was raised."""
        if isinstance(excinfo.value, CellFailed):
            record = excinfo.value.record
            return terminal.failure(record, self.config.stash[KEY].again(record))
        if isinstance(excinfo.value, TunematrixError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Point to the spec."""
        return self.path, 0, self.cell.id
