"""pytest's hooks for the catalogue of faults: each is an item, and the score comes at the end.

Loaded by `tunematrix faults` alone, with the list of faults as the one file to collect.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tunematrix.errors import BadInput, ExitCode
from tunematrix.matrix.plan import Plan
from tunematrix.matrix.plan import plan as make_plan
from tunematrix.paths import state
from tunematrix.plugin.suite import KEY
from tunematrix.proof.faults import view as shown
from tunematrix.proof.faults.catalogue import (
    CATALOGUE,
    FOLDER,
    SCORE,
    Entry,
    Unit,
    Views,
    read_entries,
    read_views,
    units_of,
)
from tunematrix.proof.faults.score import Finding, score, shortfalls, to_json
from tunematrix.proof.faults.trials import FaultRunner, untried
from tunematrix.report import terminal
from tunematrix.spec.loader import load_specs

FINDING = "tunematrix_finding"
TABLE = "tunematrix_fault_table"
RUNNER = pytest.StashKey[FaultRunner]()
LETTERS = {"detected": ".", "missed": "M", "unreached": "U", "crashed": "C", "broken": "B"}


class CatalogueFile(pytest.File):
    """The list of faults."""

    def collect(self) -> Iterable[FaultItem]:
        """Yield an item for each of them."""
        table = self.config.getoption(TABLE)
        plan, views = self._plan(), read_views(self.config.stash[KEY].context.groups, table)
        for entry in read_entries(self.path):
            yield FaultItem.of(self, entry, plan, views)

    def _plan(self) -> Plan:
        project = self.config.stash[KEY].project
        return make_plan(load_specs(project.spec_folders), project.groups, project.environment)


class FaultItem(pytest.Item):
    """One fault."""

    entry: Entry
    units: tuple[Unit, ...]
    finding: Finding | None = None

    @classmethod
    def of(cls, parent: CatalogueFile, entry: Entry, plan: Plan, views: Views) -> FaultItem:
        """Make the item of a fault."""
        item: FaultItem = cls.from_parent(parent, name=entry.id)
        item.entry, item.units = entry, units_of(entry, views, plan)
        item.extra_keyword_matches.add(entry.fault_class)
        return item

    def runtest(self) -> None:
        """Try it; whatever comes of it is a finding, and no failure of a test."""
        runner = self.config.stash.setdefault(RUNNER, FaultRunner(self.config.stash[KEY].context))
        try:
            self.finding = runner.try_fault(self.entry, self.units)
        except BadInput as error:  # it has spoilt what a cell wrote down
            self.finding = replace(untried(self.entry), fate="broken", reason=str(error))

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Point to nothing but its name."""
        return self.path, None, self.name


class Findings:
    """All findings of a run, those of xdist's workers too, and the file that holds them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.findings: list[Finding] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Remove an older score, which would be taken for this run's, once there is work."""
        self._begin(bool(session.items))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Remove it where xdist's workers collect."""
        self._begin(bool(ids))

    def _begin(self, works: bool) -> None:
        if works:
            (self.folder / SCORE).unlink(missing_ok=True)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write the score anew after each fault, so that nothing is lost."""
        data = vars(report).get(FINDING)
        if data is not None:
            self.findings.append(Finding.from_json(data))
            draft = (self.folder / SCORE).with_suffix(".draft")
            draft.write_text(json.dumps(to_json(self.findings), indent=1) + "\n", encoding="utf-8")
            draft.replace(self.folder / SCORE)

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """The run fails where less was detected than is promised."""
        is_broken = any(finding.fate == "broken" for finding in self.findings)
        if exitstatus != ExitCode.PASSED:
            return
        if self.findings and not score(self.findings).of and not is_broken:
            session.exitstatus = ExitCode.NOTHING_TESTED
        elif is_broken or shortfalls(self.findings):
            session.exitstatus = ExitCode.FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show which check noticed which fault, and the score."""
        if self.findings:
            terminalreporter.section("tunematrix faults")
            screen = terminalreporter._tw
            text = terminal.render(
                shown.summary(self.findings), screen.fullwidth, colour=screen.hasmarkup
            )
            terminalreporter.write(text)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let another table than the shipped one say where faults are tried."""
    parser.addoption("--fault-table", dest=TABLE, type=Path, help="said by `tunematrix faults`")


def pytest_configure(config: pytest.Config) -> None:
    """Keep findings where they are written, and what cells save until it has been compared."""
    config.option.tunematrix_keep_output = True
    if not hasattr(config, "workerinput") and not config.getoption("collectonly"):
        folder = state(config.rootpath)
        config.pluginmanager.register(Findings(folder), "tunematrix-findings")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> CatalogueFile | None:
    """Take the list of faults, and nothing else."""
    if file_path == state(parent.config.rootpath) / FOLDER / CATALOGUE:
        return CatalogueFile.from_parent(parent, path=file_path)
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Send the finding along with the report, also from an xdist worker to its controller."""
    report = yield
    if isinstance(item, FaultItem) and call.when == "call" and item.finding is not None:
        vars(report)[FINDING] = item.finding.to_json()
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Name what became of a fault, and what noticed it."""
    data = vars(report).get(FINDING)
    if data is None:
        return None
    finding = Finding.from_json(data)
    return finding.fate, LETTERS[finding.fate], shown.line(finding)
