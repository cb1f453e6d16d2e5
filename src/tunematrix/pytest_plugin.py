"""pytest's hooks: specs become items, cells run in them, records and the matrix come out."""

from __future__ import annotations

import argparse
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tunematrix.errors import BadInput, ExitCode, TunematrixError
from tunematrix.evidence.secrets import masked, secrets_in
from tunematrix.harness import FOLDERS, KEY, Harness
from tunematrix.items import NIGHTLY, CellItem, RelationItem, SpecFile, with_arms
from tunematrix.recorder import Recorder, record_of
from tunematrix.report import terminal
from tunematrix.results.record import Outcome

WORDS: dict[Outcome, tuple[str, str, str]] = {
    "passed": ("passed", ".", "PASSED"),
    "failed": ("failed", "F", "FAILED"),
    "error": ("error", "E", "ERROR"),
    "known_failure": ("known failure", "x", "KNOWN FAILURE"),
    "unavailable": ("unavailable", "?", "UNAVAILABLE"),
}
LACKING = pytest.StashKey[str]()
"""Why a test's backend isn't here."""

MARKERS = {
    "probe": "tries what is declared unsupported",
    "relation": "compares several cells",
    "planted": "tries whether a relation notices a planted difference",
    "requires_backend": "made by tunematrix.testing",
    NIGHTLY: "left out unless -m, or a node id, names it",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add tunematrix's options and ini keys."""
    group = parser.getgroup("tunematrix")

    def option(flag: str, **settings: Any) -> None:
        group.addoption(flag, dest="tunematrix_" + flag.strip("-").replace("-", "_"), **settings)

    option("--environment", default="cpu", metavar="NAME", help="environment whose cells run")
    many: dict[str, Any] = {"action": "append", "default": []}
    required = "fail whatever is unavailable in this environment"
    option("--require", **many, metavar="NAME", help=required)
    selected = "run only cells with this option (comma: or; repeated: and)"
    option("--axis", **many, metavar="AXIS=OPTION", help=selected)
    option(
        "--isolation",
        choices=["auto", "forkserver", "spawn", "foreground"],
        default="auto",
        help="how cells are kept apart; foreground: not at all, so that breakpoints work",
    )
    option("--keep-output", action="store_true", help="keep the output of passed cells")
    option(
        "--seeds",
        type=positive,
        metavar="N",
        help="run each cell under the seeds 0 to N-1, to see what a seed changes",
    )
    group.addoption(
        "--fault",
        dest="tunematrix_faults",
        **many,
        metavar="MODULE:NAME",
        help="enter a deliberate sabotage in every cell, to see which check notices",
    )
    for key, what in zip(FOLDERS, ("specs", "config groups of your own"), strict=True):
        parser.addini(key, f"folders with {what}", type="linelist", default=[])


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Make the harness, and name the JUnit file before pytest's own plugin looks for it."""
    harness = config.stash[KEY] = Harness(config)
    for marker, what in MARKERS.items():
        config.addinivalue_line("markers", f"{marker}: {what}")
    if not harness.spec_paths:
        return
    records = not harness.on_worker and not config.getoption("collectonly")
    try:
        # Before anything is collected, so that all that is wrong is said at once.
        markers = harness.plan.markers
        if records:
            harness.make_folder()
    except BadInput as error:
        raise pytest.UsageError(str(error)) from None
    except TunematrixError as error:
        pytest.exit(str(error), returncode=error.exit_code)
    for marker in markers:
        config.addinivalue_line("markers", f"{marker}: named by a spec")
    if records:
        config.pluginmanager.register(Recorder(harness), "tunematrix-recorder")
        if not config.getoption("xmlpath", default=None):
            config.option.xmlpath = str(harness.workshop.folder / "junit.xml")


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


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is for the night; run the arms of each relation before it."""
    asked = config.stash[KEY].asks_for(NIGHTLY) or any("::" in text for text in config.args)
    if not asked:
        late = [item for item in items if item.get_closest_marker(NIGHTLY)]
        items[:] = [item for item in items if item not in late]
        config.hook.pytest_deselected(items=late)
    items[:] = with_arms(items)


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Get ready for a cell before its line is begun; compose the next one while it runs."""
    workshop = item.config.stash[KEY].workshop
    if isinstance(item, CellItem):
        workshop.get_ready(item.cell)
    if isinstance(nextitem, CellItem):
        workshop.compose_ahead(nextitem.cell)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Look for the backends that a test requires; one that `--require` names must be there."""
    for mark in item.iter_markers("requires_backend"):
        name, reason = mark.args[0], mark.kwargs["lacking"]()
        if reason:
            text = f"backend {name} is unavailable: {reason}"
            if name in item.config.getoption("tunematrix_require"):
                pytest.fail(text, pytrace=False)
            item.stash[LACKING] = text
            pytest.skip(text)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Send the record along with the report, also from an xdist worker to its controller."""
    report = yield
    if call.when == "setup" and LACKING in item.stash:
        vars(report)["tunematrix_unavailable"] = item.stash[LACKING]
    if not isinstance(item, CellItem | RelationItem) or call.when != "call" or item.record is None:
        return report
    record = item.record
    vars(report)["tunematrix"] = record.to_json()
    if report.passed and record.outcome != "passed":
        report.outcome = "skipped"
        report.longrepr = (str(item.path), 1, record.reason)
    if record.outcome == "known_failure":
        vars(report)["wasxfail"] = record.reason
    # What a cell in the foreground printed; other cells' logs are masked where they are read.
    secrets = secrets_in(os.environ)
    report.sections = [(title, masked(text, secrets)) for title, text in report.sections]
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(
    report: pytest.TestReport, config: pytest.Config
) -> tuple[str, str, str] | None:
    """Name a cell's outcome in our words, with its figures where there is room."""
    record = record_of(report)
    if "tunematrix_unavailable" in vars(report):
        return WORDS["unavailable"]
    if record is None:
        return None
    category, letter, word = WORDS[record.outcome]
    if record.outcome == "unavailable" and report.failed:
        category, letter = "failed", "F"
    figures = terminal.figures(record) if record.outcome == "passed" else ""
    return category, letter, f"{word} {figures}".rstrip()


def positive(text: str) -> int:
    """Return a number of one or more, as an option wants it."""
    if not text.isdigit() or not int(text):
        message = f"{text} is no number of seeds; give 1 or more"
        raise argparse.ArgumentTypeError(message)
    return int(text)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A run in which every test lacked its backend is no success."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    ended = {} if reporter is None else reporter.stats
    lacking = any("tunematrix_unavailable" in vars(one) for one in ended.get("unavailable", ()))
    others = ended.keys() - {"", "deselected", "unavailable", "warnings"}
    if exitstatus == ExitCode.PASSED and lacking and not others:
        session.exitstatus = ExitCode.NOTHING_TESTED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was missing for each test that couldn't run: it is no silent skip."""
    for report in terminalreporter.stats.get("unavailable", ()):
        if reason := vars(report).get("tunematrix_unavailable"):
            terminalreporter.write_line(f"UNAVAILABLE {report.nodeid}: {reason}")
