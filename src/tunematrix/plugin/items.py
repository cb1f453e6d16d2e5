"""Spec files as pytest's collectors; cells and relations as its items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tunematrix.matrix.cells import Cell
from tunematrix.matrix.relations import Related
from tunematrix.plugin.again import command_again
from tunematrix.plugin.suite import KEY
from tunematrix.report import terminal
from tunematrix.report.text import one_line
from tunematrix.results.record import Record
from tunematrix.workflow.cells import declared_failures, run_cell
from tunematrix.workflow.records import unjudged
from tunematrix.workflow.relations import run_arm, run_planted, run_relation

NIGHTLY = "nightly"
_NO_PROPERTIES: list[tuple[str, object]] = []
_NO_SECTIONS: list[tuple[str, str, str]] = []
_NO_WORDS: set[str] = set()
_NO_STASH = pytest.Stash()


class CellFailed(Exception):
    """Ends the item of a cell that isn't good; its text is the whole report.

    Attributes:
        reason: the cell's, in one line.
    """

    def __init__(self, report: str, reason: str) -> None:
        super().__init__(report)
        self.reason = one_line(reason.partition("\n")[0])


class SpecFile(pytest.File):
    """One spec file; its cells and relations are its items."""

    def collect(self) -> Iterator[SpecItem]:
        """Yield what this file plans; probes and planted differences where they are asked for."""
        suite = self.config.stash[KEY]
        path = self.path.resolve()
        suite.read.add(path)
        plan = suite.plans.get(path)
        if plan is None:
            return
        for cell in plan.cells:
            yield CellItem.from_parent(self, name=cell.id, cell=cell)
        for exclusion in plan.exclusions if suite.arguments.asks_for("probe") else ():
            item = CellItem.from_parent(self, name=exclusion.cell.id, cell=exclusion.cell)
            item.expected = declared_failures(exclusion)
            item.add_marker("probe")
            yield item
        for related in plan.relations:
            yield RelationItem.from_parent(self, name=related.id, related=related)
            # One that fails anyhow would notice anything.
            tried = suite.arguments.asks_for("planted") and not suite.known_failures(related)
            for planted in related.relation.planted if tried else ():
                sabotaged = related.with_planted(planted)
                yield RelationItem.from_parent(
                    self, name=sabotaged.id, related=sabotaged, honest=related
                )


class SpecItem(pytest.Item):
    """What a spec plans: it leaves a record, and fails unless that is good.

    Attributes:
        subject: what is planned; record: what became of it, once it has run.
        carried: its record, where a thread has made it; seconds: what that took.
    """

    def __init__(self, *, subject: Cell | Related, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.subject = subject
        self.record: Record | None = None
        self.carried: Future[Record] | None = None
        self.seconds = 0.0
        for marker in subject.spec.markers:
            self.add_marker(_marker(marker))

    def make_record(self) -> Record:
        """Take it the whole way."""
        raise NotImplementedError

    def forget(self) -> None:
        """Let go of what became of it, once that has been reported, and of what is empty by now."""
        self.record = self.carried = None
        self.user_properties, self._report_sections = _NO_PROPERTIES, _NO_SECTIONS
        self.extra_keyword_matches, self.stash = _NO_WORDS, _NO_STASH
        self._store = self.stash

    def runtest(self) -> None:
        """Take it the whole way; raise unless its outcome is a good one."""
        suite = self.config.stash[KEY]
        self.record = record = self.carried.result() if self.carried else self.make_record()
        if suite.is_failure(record):
            again = command_again(suite, record, self.keywords)
            raise CellFailed(terminal.failure(record, again), record.reason)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show what was measured, not where in pytest it was raised."""
        if not isinstance(excinfo.value, CellFailed):
            # A bug, in a check perhaps: its traceback is shown from here on, and it is on record.
            reason = f"internal error, please report it: {excinfo.exconly()}"
            self.record = unjudged(self.subject, self.config.stash[KEY].context, reason)
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
        return self.path, 0, self.name


class CellItem(SpecItem):
    """One cell."""

    def __init__(self, *, cell: Cell, **kwargs: Any) -> None:
        super().__init__(subject=cell, **kwargs)
        self.cell = cell
        self.expected = self.config.stash[KEY].known_failures(cell)

    def make_record(self) -> Record:
        """Run the cell, unless it is an arm of a relation that has been run already."""
        context = self.config.stash[KEY].context
        if self.cell.spec.relation is not None and "probe" not in self.keywords:
            return run_arm(self.cell, context)
        return run_cell(self.cell, context, self.expected)


class RelationItem(SpecItem):
    """One relation, with or without a planted difference.

    Attributes:
        related: what is compared; honest: the same without its planted difference, if it has one.
    """

    def __init__(self, *, related: Related, honest: Related | None = None, **kwargs: Any) -> None:
        super().__init__(subject=related, **kwargs)
        self.related = related
        self.honest = honest
        self.add_marker("relation" if honest is None else "planted")

    @property
    def cells(self) -> Iterator[Cell]:
        """The cells that it compares, but for sabotaged ones: those are no cells of the suite."""
        return (arm.cell for arm in (self.honest or self.related).arms)

    def make_record(self) -> Record:
        """Compare the arms."""
        context = self.config.stash[KEY].context
        if self.honest is not None:
            return run_planted(self.related, self.honest, context)
        suite = self.config.stash[KEY]
        return run_relation(self.related, context, suite.known_failures(self.related))


@cache
def _marker(name: str) -> pytest.MarkDecorator:
    """Return a marker; one for all items that have it."""
    marker: pytest.MarkDecorator = getattr(pytest.mark, name)
    return marker


def with_arms(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return the items, and before each relation those of its arms that aren't among them."""
    there = {item.cell.id: item for item in items if isinstance(item, CellItem)}
    ordered: dict[pytest.Item, None] = {}
    for item in items:
        for cell in item.cells if isinstance(item, RelationItem) else ():
            if cell.id not in there:
                assert item.parent is not None
                there[cell.id] = CellItem.from_parent(item.parent, name=cell.id, cell=cell)
            ordered.setdefault(there[cell.id])
        ordered.setdefault(item)
    return list(ordered)
