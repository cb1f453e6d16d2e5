"""pytest's hooks: specs become items, cells run in them, records and the matrix come out."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tunematrix.errors import ExitCode, MachineProblem, TunematrixError
from tunematrix.harness import KEY, Harness
from tunematrix.items import CellItem, SpecFile
from tunematrix.report import terminal
from tunematrix.results.record import Outcome, Record
from tunematrix.workflow import excluded

WORDS: dict[Outcome, tuple[str, str, str]] = {
    "passed": ("passed", ".", "PASSED"),
    "failed": ("failed", "F", "FAILED"),
    "error": ("error", "E", "ERROR"),
    "known_failure": ("known failures", "x", "KNOWN FAILURE"),
    "unavailable": ("unavailable", "?", "UNAVAILABLE"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add tunematrix's options and ini keys."""
    group = parser.getgroup("tunematrix")

    def option(flag: str, **settings: Any) -> None:
        group.addoption(flag, dest="tunematrix_" + flag.strip("-").replace("-", "_"), **settings)

    option("--environment", default="cpu", metavar="NAME", help="environment whose cells run")
    option(
        "--require",
        action="append",
        default=[],
        metavar="NAME",
        help="fail whatever is unavailable in this environment",
    )
    option(
        "--axis",
        action="append",
        default=[],
        metavar="AXIS=OPTION",
        help="run only cells with this option (comma: or; repeated: and)",
    )
    option(
        "--isolation",
        choices=["auto", "forkserver", "spawn", "foreground"],
        default="auto",
        help="how cells are kept apart; foreground: not at all, so that breakpoints work",
    )
    option("--keep-output", action="store_true", help="keep the output of passed cells")
    group.addoption(
        "--fault",
        dest="tunematrix_faults",
        action="append",
        default=[],
        metavar="MODULE:NAME",
        help="enter a deliberate sabotage in every cell, to see which check notices",
    )
    parser.addini("tunematrix_specs", "folders with specs", type="linelist", default=[])
    parser.addini("tunematrix_configs", "folders with your own config groups", type="linelist")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Make the harness, and name the JUnit file before pytest's own plugin looks for it."""
    harness = config.stash[KEY] = Harness(config)
    config.addinivalue_line("markers", "probe: tries what is declared unsupported")
    if not harness.spec_paths:
        return
    try:
        specs = {cell.spec for cell in harness.plan.cells}
    except TunematrixError as error:
        # Said before anything is collected, so that all that is wrong is said at once.
        pytest.exit(str(error), returncode=error.exit_code)
    for marker in sorted({marker for spec in specs for marker in spec.markers}):
        config.addinivalue_line("markers", f"{marker}: named by a spec")
    if not harness.on_worker and not config.getoption("collectonly"):
        config.pluginmanager.register(Recorder(harness), "tunematrix-recorder")
        config.option.xmlpath = config.option.xmlpath or str(harness.workshop.folder / "junit.xml")


def pytest_unconfigure(config: pytest.Config) -> None:
    """End whatever was started for cells."""
    if KEY in config.stash:
        config.stash[KEY].close()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give each xdist worker the run's name."""
    node.workerinput["tunematrix_run_id"] = node.config.stash[KEY].run_id


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> SpecFile | None:
    """Take YAML files of the configured spec folders, and no others."""
    if parent.config.stash[KEY].is_spec(file_path):
        return SpecFile.from_parent(parent, path=file_path)
    return None


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Compose the next cell while this one runs."""
    for one in (item, nextitem):
        if isinstance(one, CellItem):
            item.config.stash[KEY].workshop.compose_ahead(one.cell)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Send the record along with the report, also from an xdist worker to its controller."""
    report = yield
    if isinstance(item, CellItem) and call.when == "call" and item.record is not None:
        vars(report)["tunematrix"] = item.record.to_json()
        if report.passed and item.record.outcome != "passed":
            report.outcome = "skipped"
            report.longrepr = (str(item.path), 1, item.record.reason)
        if item.record.outcome == "known_failure":
            vars(report)["wasxfail"] = item.record.reason
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(
    report: pytest.TestReport, config: pytest.Config
) -> tuple[str, str, str] | None:
    """Name a cell's outcome in our words, with its figures where there is room."""
    record = record_of(report)
    if record is None:
        return None
    category, letter, word = WORDS[record.outcome]
    return category, letter, f"{word} {terminal.figures(record)}".rstrip()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A run in which nothing was tested is not a success."""
    recorder = session.config.pluginmanager.get_plugin("tunematrix-recorder")
    if recorder is not None and exitstatus == ExitCode.PASSED and not recorder.tested:
        session.exitstatus = ExitCode.NOTHING_TESTED


def record_of(report: pytest.TestReport) -> Record | None:
    """Return the record that came with a report."""
    data = vars(report).get("tunematrix")
    return None if data is None else Record.from_json(data)


class Recorder:
    """Writes all records, those of xdist's workers too, and shows the matrix at the end."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.records: list[Record] = []

    @property
    def tested(self) -> bool:
        """Whether any cell really ran."""
        return any(record.outcome != "unavailable" for record in self.records)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Append a record as soon as its cell has ended."""
        record = record_of(report)
        if record is not None:
            self.records.append(record)
            self._append(record)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Record the exclusions of this run, then show everything as one matrix."""
        if not self.records:
            return
        exclusions = () if self.harness.probes else self.harness.plan.exclusions
        excluded_records = [excluded(one, self.harness.workshop) for one in exclusions]
        for record in excluded_records:
            self._append(record)
        shown = terminal.summary([*self.records, *excluded_records])
        terminalreporter.section(f"tunematrix {self.harness.workshop.environment.name}")
        screen = terminalreporter._tw
        width, colour = screen.fullwidth, screen.hasmarkup
        terminalreporter.write(terminal.render(shown, width, colour=colour))
        if not self.tested:
            terminalreporter.write_line("nothing was tested: every cell was unavailable", red=True)

    def _append(self, record: Record) -> None:
        try:
            self.harness.store.append(record)
        except MachineProblem as error:
            pytest.exit(str(error), returncode=error.exit_code)
