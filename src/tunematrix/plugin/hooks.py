"""pytest's hooks: specs become items, cells run in them, records and the matrix come out."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tunematrix.errors import BadInput, TunematrixError, did_you_mean
from tunematrix.evidence.secrets import masked, secrets_in
from tunematrix.plugin import inspected
from tunematrix.plugin.begun import begin, watch_the_exit
from tunematrix.plugin.items import NIGHTLY, CellItem, RelationItem, SpecFile, with_arms
from tunematrix.plugin.ledger import LEDGER, Ledger, check_collected, last_word, register
from tunematrix.plugin.options import add_options
from tunematrix.plugin.parts import forget_older, register_parts
from tunematrix.plugin.portions import part_of, switch, without_integration
from tunematrix.plugin.recorder import record_of
from tunematrix.plugin.required import refuse_unrequirable
from tunematrix.plugin.suite import KEY, Suite
from tunematrix.project import FOLDERS, SHIPPED, spec_name
from tunematrix.report import junit, terminal
from tunematrix.report.saying import safe
from tunematrix.results.record import Outcome
from tunematrix.workflow.cells import get_ready

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
    "smoke": "among the fastest, for every pull request",
    "integration": "trains, or runs a trainer; TUNEMATRIX_INTEGRATION=0 leaves it out, =1 runs it",
    "config": "checks a config without training",
    "runner": "calls a command line as a real subprocess",
    "slow": "takes up to minutes",
    "probe": "tries what is declared unsupported",
    "relation": "compares several cells",
    "planted": "checks that a relation notices a deliberate error",
    "requires_backend": "needs a backend (set by tunematrix.testing)",
    NIGHTLY: "runs only if -m or a node id names it",
}


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add tunematrix's options and ini keys, before plug-ins of the project are imported."""
    add_options(parser)
    config = pluginmanager.get_plugin("pytestconfig")
    assert config is not None
    begin(config)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Make the suite, before pytest's own plugins look at options that it sets."""
    suite = config.stash[KEY] = Suite(config)
    ledger = config.stash[LEDGER] = Ledger(suite)
    register(config, ledger, "tunematrix-ledger")
    arguments = suite.arguments
    arguments.take_the_specs()
    suite.integration = switch(config, asked=arguments.asks_for("integration"))
    for marker, what in MARKERS.items():
        config.addinivalue_line("markers", f"{marker}: {what}")
    inspected.begin(config)
    refuse_unrequirable(suite)
    if not arguments.spec_paths:
        return
    records = not suite.on_worker and not config.getoption("collectonly")
    try:
        # Before anything is collected, so that all that is wrong is said at once.
        markers = suite.plan.markers
        if records:
            suite.make_folder()
            register_parts(suite)
    except BadInput as error:
        forget_older(suite)
        raise pytest.UsageError(str(error)) from None
    except TunematrixError as error:
        pytest.exit(str(error), returncode=error.exit_code)
    for marker in markers:
        config.addinivalue_line("markers", f"{marker}: set by a spec")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    """Watch the exit before anybody's conftest.py is there, where cells may be run."""
    named = early_config.known_args_namespace.tunematrix_environment
    folders = [name for key in FOLDERS for name in early_config.getini(key)]
    if any("\0" in name for name in folders):
        raise pytest.UsageError("a folder of specs or configs has a null character in its name")
    if named is not None or folders:
        watch_the_exit(early_config)
    try:
        yield
    except SystemExit as end:
        message = f"a conftest.py ends Python (SystemExit: {end.code}); nothing was tested"
        raise pytest.UsageError(message) from None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, int, int]:
    """Have the last word on the exit code; a refusal repeats what it refuses, but no secrets."""
    try:
        code = yield
    except pytest.UsageError as error:
        raise pytest.UsageError(*map(safe, map(str, error.args))) from None
    return last_word(config, code)


@pytest.hookimpl(tryfirst=True)
def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Pass over no spec, whatever its folder is called (build, dist) or a conftest.py says."""
    return False if config.stash[KEY].arguments.is_own(collection_path) else None


def pytest_collection_finish(session: pytest.Session) -> None:
    """See that all planned specs are there."""
    check_collected(session)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End whatever was started for cells."""
    if KEY in config.stash:
        config.stash[KEY].close()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give each xdist worker the run's name."""
    node.workerinput["tunematrix_run_id"] = node.config.stash[KEY].run_id


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.File | None:
    """Take YAML files of the configured spec folders, and what the project wants inspected."""
    if parent.config.stash[KEY].arguments.is_spec(file_path):
        name = spec_name(file_path, parent.config.rootpath)
        nodeid = name if name.startswith(f"{SHIPPED}/") else None
        return SpecFile.from_parent(parent, path=file_path, nodeid=nodeid)
    return inspected.collect(file_path, parent)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Refuse a cell that there isn't; a marker, too, where nothing but specs could have it."""
    config = session.config
    suite = config.stash[KEY]
    arguments = suite.arguments
    for name in arguments.named_cells:
        # pytest takes a name without its brackets for all that begin with it.
        if name not in suite.subjects and not any(
            one.partition("[")[0] == name for one in suite.subjects
        ):
            advice = f"{did_you_mean(name, suite.subjects)} tunematrix plan lists them"
            raise pytest.UsageError(f"there is no cell {name}; {advice}")
    if arguments.spec_paths and arguments.is_only_specs:
        declared = (re.match(r"[^:(\s]+", line) for line in config.getini("markers"))
        known = [match[0] for match in declared if match]
        for name in arguments.markers:
            if name not in known:
                # What a newcomer may mean; pytest's own are for Python tests.
                advice = did_you_mean(name, [*MARKERS, *suite.plan.markers])
                raise pytest.UsageError(f"-m {name}: {name} is not a marker; {advice}")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out nightly cells; run the arms of each relation before it."""
    suite = config.stash[KEY]
    asked = suite.arguments.asks_for(NIGHTLY) or any("::" in text for text in config.args)
    if not asked:
        late = [item for item in items if item.get_closest_marker(NIGHTLY)]
        items[:] = [item for item in items if item not in late]
        config.hook.pytest_deselected(items=late)
        suite.left_out = len(late)
    if not suite.integration:
        _keep(config, items, without_integration(items))
    if (chosen := config.getoption("tunematrix_shard")) is not None:
        _keep(config, items, part_of(items, *chosen))
    items[:] = with_arms(items)


def _keep(config: pytest.Config, items: list[pytest.Item], kept: list[pytest.Item]) -> None:
    """Leave out all others, and let pytest count them as deselected."""
    left = set(kept)
    config.hook.pytest_deselected(items=[item for item in items if item not in left])
    items[:] = kept


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Get ready for a cell before its line is begun."""
    if isinstance(item, CellItem) and item.carried is None:
        get_ready(item.cell, item.config.stash[KEY].context)


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


@pytest.hookimpl(tryfirst=True)
def pytest_warning_recorded(warning_message: warnings.WarningMessage) -> None:
    """Mask a warning, such as a cell's in the foreground, before anything shows it."""
    said = str(warning_message.message)
    told = masked(said, secrets_in(os.environ))
    if told != said:
        vars(warning_message)["message"] = told


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
    if item.carried is not None:
        report.duration = item.seconds
    # Plain where it has to reach another process; a copy of each would take as much room again.
    vars(report)["tunematrix"] = record.to_json() if item.config.stash[KEY].on_worker else record
    # The item's, for the report of its teardown, which is the one that JUnit's plugin reads.
    item.user_properties += junit.of_cell(record)
    report.user_properties = [*item.user_properties]
    if report.passed and record.outcome != "passed":
        report.outcome = "skipped"
        report.longrepr = (str(item.path), 1, record.reason)
    if record.outcome == "known_failure":
        vars(report)["wasxfail"] = record.reason
    # What a cell in the foreground printed; other cells' logs are masked where they are read.
    if report.sections:
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
    suite = config.stash[KEY]
    if suite.is_drawn:
        return category, "", ""  # the matrix shows it
    # Not in pytest's short summary, where tools look for `FAILED node - reason`.
    figures = "" if suite.is_ending else terminal.figures(record)
    return category, letter, f"{word} {figures}".rstrip()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was missing for each test that couldn't run: it is no silent skip."""
    for report in terminalreporter.stats.get("unavailable", ()):
        if reason := vars(report).get("tunematrix_unavailable"):
            terminalreporter.write_line(f"UNAVAILABLE {report.nodeid}: {reason}")
