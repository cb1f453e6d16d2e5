"""The records of one pytest run: written as items end, summed up on one screen at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from _pytest.junitxml import xml_key

from tunematrix.baselines.holding import band_of
from tunematrix.errors import BadInput, ExitCode, MachineProblem, TunematrixError
from tunematrix.paths import shown, state
from tunematrix.plugin.again import command_again
from tunematrix.plugin.items import NIGHTLY
from tunematrix.plugin.ledger import TOLD, Ledger
from tunematrix.plugin.suite import Suite
from tunematrix.report import ending, junit, terminal
from tunematrix.report.changes import compared
from tunematrix.report.drift import notes
from tunematrix.results.record import Record
from tunematrix.results.remembered import Shortening
from tunematrix.results.store import Store
from tunematrix.workflow.records import excluded, unjudged
from tunematrix.workflow.relations import clear_tensors

INTERRUPTED = "interrupted; what has run until then is in the report"
INTERRUPTED_EARLY = "interrupted before a cell had ended; nothing is recorded of this run"


def record_of(report: pytest.TestReport) -> Record | None:
    """Return the record that came with a report."""
    data = vars(report).get("tunematrix")
    return data if data is None or isinstance(data, Record) else Record.from_json(data)


def _how(report: pytest.TestReport) -> str:
    """Say what pytest makes of the end of an item that left no record."""
    what = report.longrepr
    if isinstance(what, tuple):
        return str(what[2])
    crash = getattr(what, "reprcrash", None)
    return str(what or report.outcome) if crash is None else str(crash.message)


class Recorder:
    """Writes all records, those of xdist's workers too, and sums them up at the end.

    Attributes:
        records: those that have been written, without their figures; failed: those of them that
            fail the run.
        again: by id, the command that repeats it; problem: why no more can be written.
        why: why the run is no success though pytest would call it one.
    """

    def __init__(self, suite: Suite, ledger: Ledger) -> None:
        self.suite = suite
        self.ledger = ledger
        self.records = ledger.recorded
        self._memory = Shortening()
        self.failed: list[Record] = []
        self.again: dict[str, str] = {}
        self.problem = ""
        self.why = ""
        # How many relations are still to compare each arm; under many seeds a disk would fill up.
        self.awaited = Counter[str]()
        # The cells whose tensors stay: those that failed, or whose relation did.
        self._kept = set[str]()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Take note of the relations that will be run."""
        self._await(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Take note of them where xdist's workers collect, each the same."""
        self._await(ids)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None]:
        """Append a record as soon as its cell has ended; stop where none can be written.

        pytest keeps all reports: once everybody has seen one, its record is shortened there, too.
        """
        yield
        record = record_of(report) or self._kept_from_running(report)
        if record is not None:
            short = self._append(self._of_the_run(record))
            self.ledger.settle(report.nodeid)
            if report.failed or record.is_bad:
                self.failed.append(short)
                self.again[short.cell_id] = command_again(self.suite, short, report.keywords)
            self.awaited.subtract(record.arms)
            cells = record.arms or (record.cell_id,)
            self._clear(name for name in cells if self.awaited[name] <= 0)
            if "tunematrix" in vars(report):
                vars(report)["tunematrix"] = short
        if self.problem:
            pytest.exit("records can't be written any more")

    def _kept_from_running(self, report: pytest.TestReport) -> Record | None:
        """Return a record of what ended without one: it was skipped, or xdist's worker died."""
        if not self.ledger.owes(report.nodeid) or report.when == "teardown":
            return None
        if report.when == "setup" and report.passed:
            return None
        subject = self.suite.subjects.get(report.nodeid.partition("::")[2])
        if subject is None:
            return None
        text = f"it ended without a verdict: {_how(report)}"
        return unjudged(subject, self.suite.context, text)

    def keep(self, record: Record) -> None:
        """Append the record of a cell that no report will come of."""
        self._append(self._of_the_run(record))

    def _of_the_run(self, record: Record) -> Record:
        """Return a record that says of how many it is one: fewer of them are no whole run."""
        return replace(record, planned=self.ledger.planned[record.environment])

    @pytest.hookimpl(trylast=True)
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Say what Ctrl-C means for a run, and not where in tunematrix it arrived."""
        reporter = self.suite.config.pluginmanager.get_plugin("terminalreporter")
        if excinfo.type is not KeyboardInterrupt or self.suite.config.option.fulltrace:
            return
        if reporter is not None and (told := reporter._keyboardinterrupt_memo.reprcrash):
            told.message = INTERRUPTED if self.records else INTERRUPTED_EARLY

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Generator[None]:
        """Record the exclusions of this run; a run in which nothing was tested is no success.

        The innermost of all wrappers: what pytest can't write then is told on the screen, too.
        """
        self._finish(session, exitstatus)
        file = self.suite.config.getoption("xmlpath", default=None)
        try:
            yield
        except OSError as error:
            if file is None:
                raise
            text = f"can't write {shown(Path(file))}: {error.strerror or error}"
            self.problem = self.problem or f"{text}; make room, or name another with --junitxml"
            session.exitstatus = ExitCode.MACHINE

    def _finish(self, session: pytest.Session, exitstatus: int) -> None:
        ran = {record.spec for record in self.records}
        arguments, plan = self.suite.arguments, self.suite.plan
        shown = ran and not arguments.asks_for("probe")
        with_cells = {cell.spec.test_id for cell in plan.cells}
        for exclusion in plan.exclusions if shown else ():
            record, spec = excluded(exclusion, self.suite.context), exclusion.cell.spec
            # What -k and -m left out altogether has no say in this run. A spec of which nothing can
            # run has, or it would be passed over without a word.
            is_whole = spec.test_id not in with_cells and NIGHTLY not in spec.markers
            if record.spec in ran or (is_whole and not arguments.chooses_cells):
                self._append(record)
        self._describe()
        self._clear(name for record in self.records for name in record.arms or (record.cell_id,))
        if self.problem:
            session.exitstatus = ExitCode.MACHINE
        else:
            code, self.why = self.ledger.judged(exitstatus)
            self.suite.config.stash[TOLD] = self.why
            if code != exitstatus:
                session.exitstatus = code

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter, exitstatus: int
    ) -> Generator[None]:
        """Show how the run ended, below all that pytest and others have to say."""
        self.suite.is_ending = True
        yield
        if self.records:
            terminalreporter.section(f"tunematrix {self.suite.context.environment.name}")
            if locked := self.suite.locked:
                terminalreporter.write_line(self._compared(locked))
            for line in self._notes():
                terminalreporter.write_line(line, yellow=True)
            screen = terminalreporter._tw
            width, colour = screen.fullwidth, screen.hasmarkup
            left_out = self.suite.left_out
            page = "" if self.problem else self._page()
            shown = ending.ending(self.records, self.failed, self.again, width, left_out, page)
            terminalreporter.write(terminal.render(shown, width, colour=colour))
        elif exitstatus == ExitCode.NOTHING_TESTED:
            plan = self.suite.plan
            for exclusion in () if plan.cells else plan.exclusions:
                why = f"{exclusion.reason} <{exclusion.link}>; -m probe tries it"
                terminalreporter.write_line(f"{exclusion.cell.id} is unsupported: {why}")
            text = ["nothing was tested: no cell was selected", self.suite.way_out]
            terminalreporter.write_line("; ".join(filter(None, text)), red=True)
            if self.suite.left_out:
                terminalreporter.write_line(ending.nightly(self.suite.left_out))
        if self.records and not self.ledger.tested:
            terminalreporter.write_line("nothing was tested: every cell was unavailable", red=True)
        if self.why:
            terminalreporter.write_line(self.why, red=True)
        if self.problem:
            terminalreporter.write_line(self.problem, red=True)

    def _await(self, ids: Iterable[str]) -> None:
        collected = {node_id.partition("::")[2] for node_id in ids}
        self.awaited.clear()
        for related in self.suite.plan.relations:
            # Each planted difference is compared beside the relation without it.
            for difference in related.relation.planted:
                planted = related.with_planted(difference)
                if planted.id in collected:
                    arms = (*related.arms, *planted.arms)
                    self.awaited.update(arm.cell.id for arm in arms)
            if related.id in collected:
                self.awaited.update(arm.cell.id for arm in related.arms)

    def _describe(self) -> None:
        """Say in the JUnit file where all of this ran, before pytest writes it."""
        xml = self.suite.config.stash.get(xml_key, None)
        if xml is not None and self.records:
            for name, value in junit.of_suite(self.records):
                xml.add_global_property(name, value)

    def _compared(self, locked: Path) -> str:
        """Say what differs from the locked environment; old records there break nothing here."""
        try:
            return compared(self.records, Store(locked / "results.jsonl").read(), locked.name)
        except BadInput as error:
            return f"nothing to compare with: {error}"

    def _page(self) -> str:
        """Write a page about this run, and say where it is; whatever fails there fails no run."""
        # Only a run that has recorded something needs it.
        from tunematrix.report.html.page import write_page
        from tunematrix.report.html.sources import recorded

        context = self.suite.context
        page = context.folder / "report.html"
        again = self.again

        def repeat(record: Record) -> str:
            return again.get(record.cell_id) or command_again(self.suite, record)

        try:
            bands = partial(band_of, baselines=context.baselines)
            write_page(page, recorded(context.folder, state(self.suite.root)), repeat, bands)
        except TunematrixError as error:
            return f"none: {error}"
        return shown(page)

    def _notes(self) -> list[str]:
        """Say what left its band, or flipped; old records there break nothing here."""
        try:
            return list(notes(self.records, self.suite.store, self.suite.context.baselines))
        except BadInput as error:
            return [f"nothing to compare with: {error}"]

    def _clear(self, cells: Iterable[str]) -> None:
        """Remove the tensors of cells that nothing will compare any more."""
        if not self.suite.context.keep_output:
            clear_tensors(self.suite.context, cells, self._kept)

    def _append(self, record: Record) -> Record:
        """Write a record, and return what is kept of it here."""
        short = self._memory.short(record)
        if self.problem:
            return short
        self.records.append(short)
        if record.is_bad:
            self._kept.update(record.arms or (record.cell_id,))
        try:
            self.suite.store.append(record)
        except MachineProblem as error:
            self.problem = str(error)
        return short
