"""The records of one pytest run: written as items end, shown as one matrix at the end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from tunematrix.errors import BadInput, ExitCode, MachineProblem
from tunematrix.harness import Harness
from tunematrix.paths import state
from tunematrix.report import soak as report_soak
from tunematrix.report import terminal
from tunematrix.report.changes import compared
from tunematrix.results.margins import soak
from tunematrix.results.record import Record
from tunematrix.results.store import Store
from tunematrix.workflow.cells import excluded
from tunematrix.workflow.relations import clear_tensors

SOAK = "soak.json"
"""Below `.tunematrix/`: what a run under several seeds came to."""


def record_of(report: pytest.TestReport) -> Record | None:
    """Return the record that came with a report."""
    data = vars(report).get("tunematrix")
    return None if data is None else Record.from_json(data)


class Recorder:
    """Writes all records, those of xdist's workers too, and shows the matrix at the end."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.records: list[Record] = []
        self.problem = ""
        # How many relations are still to compare each arm; under many seeds a disk would fill up.
        self.awaited = Counter[str]()

    @property
    def tested(self) -> bool:
        """Whether any cell really ran."""
        return any(record.outcome not in ("unavailable", "unsupported") for record in self.records)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Take note of the relations that will be run."""
        self._await(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Take note of them where xdist's workers collect, each the same."""
        self._await(ids)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Append a record as soon as its cell has ended; stop where none can be written."""
        record = record_of(report)
        if record is not None:
            self._append(record)
            self.awaited.subtract(record.arms)
            self._clear(n for n in record.arms or (record.cell_id,) if self.awaited[n] <= 0)
        if self.problem:
            pytest.exit("no more records can be written")

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Record the exclusions of this run; a run in which nothing was tested is no success."""
        ran = {record.spec for record in self.records}
        shown = ran and not self.harness.asks_for("probe")
        for exclusion in self.harness.plan.exclusions if shown else ():
            record = excluded(exclusion, self.harness.workshop)
            # What -k and -m left out altogether has no say in this run.
            if record.spec in ran:
                self._append(record)
        self._clear(name for one in self.records for name in one.arms or (one.cell_id,))
        if self.harness.seeds is not None and self.records:
            self._write_soak()
        if self.problem:
            session.exitstatus = ExitCode.MACHINE
        elif exitstatus == ExitCode.PASSED and self.records and not self.tested:
            session.exitstatus = ExitCode.NOTHING_TESTED

    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter, exitstatus: int
    ) -> None:
        """Show everything as one matrix."""
        if self.records:
            terminalreporter.section(f"tunematrix {self.harness.workshop.environment.name}")
            screen = terminalreporter._tw
            width, colour = screen.fullwidth, screen.hasmarkup
            shown = terminal.summary(self.records)
            terminalreporter.write(terminal.render(shown, width, colour=colour))
            if locked := self.harness.locked:
                terminalreporter.write_line(self._compared(locked))
            if self.harness.seeds is not None:
                terminalreporter.section("tunematrix soak")
                found = report_soak.summary(soak(self.records))
                terminalreporter.write(terminal.render(found, width, colour=colour))
        elif exitstatus == ExitCode.NOTHING_TESTED:
            plan = self.harness.plan
            for exclusion in () if plan.cells else plan.exclusions:
                why = f"{exclusion.reason} <{exclusion.link}>; -m probe tries it"
                terminalreporter.write_line(f"{exclusion.cell.id} is unsupported: {why}")
            text = "nothing was tested: no cell was selected; loosen --axis, -k or -m"
            terminalreporter.write_line(text, red=True)
        if self.records and not self.tested:
            terminalreporter.write_line("nothing was tested: every cell was unavailable", red=True)
        if self.problem:
            terminalreporter.write_line(self.problem, red=True)

    def _await(self, ids: Iterable[str]) -> None:
        collected = {node_id.partition("::")[2] for node_id in ids}
        self.awaited.clear()
        for related in self.harness.plan.relations:
            # Each planted difference is compared beside the relation without it.
            planted = [related.with_planted(one) for one in related.relation.planted]
            for one in planted:
                if one.id in collected:
                    self.awaited.update(arm.cell.id for both in (related, one) for arm in both.arms)
            if related.id in collected:
                self.awaited.update(arm.cell.id for arm in related.arms)

    def _write_soak(self) -> None:
        path = state(self.harness.root) / SOAK
        try:
            text = json.dumps(soak(self.records).to_json(), indent=1) + "\n"
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            self.problem = self.problem or f"can't write {path}: {error.strerror}; free some space"

    def _compared(self, locked: Path) -> str:
        """Say what differs from the locked environment; old records there break nothing here."""
        try:
            return compared(self.records, Store(locked / "results.jsonl").read(), locked.name)
        except BadInput as error:
            return f"nothing to compare with: {error}"

    def _clear(self, cells: Iterable[str]) -> None:
        """Remove the tensors of cells that nothing will compare any more."""
        if not self.harness.workshop.keep_output:
            clear_tensors(self.harness.workshop, cells, self.records)

    def _append(self, record: Record) -> None:
        if self.problem:
            return
        self.records.append(record)
        try:
            self.harness.store.append(record)
        except MachineProblem as error:
            self.problem = str(error)
