"""Green means tested: what a pytest run may end with, whatever marks, options and plug-ins did.

Every cell and relation that pytest collects is entered, and struck out by its record or by being
deselected. What is left at the end, a record of a failure, or no record of a test at all makes 0
impossible, also where pytest or somebody's conftest.py would end with it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from tunematrix.environments.running import ENDING, LISTING
from tunematrix.errors import ExitCode, counted
from tunematrix.matrix.cells import Cell
from tunematrix.matrix.relations import Related
from tunematrix.paths import shown
from tunematrix.plugin.begun import is_worker, names_environment
from tunematrix.plugin.items import SpecItem
from tunematrix.plugin.suite import KEY, Suite
from tunematrix.report.saying import complain
from tunematrix.report.text import one_line
from tunematrix.results.record import Record, backend_of

UNTESTED = ("unavailable", "unsupported")
NOTHING = "nothing was tested: nothing ran"
NAMED = 3
"""Cells that a message names."""


class Ledger:
    """What a run has to answer for, and what it has answered.

    Attributes:
        recorded: the records that were written; others_ran: tests of the project's own that ran.

    Args:
        suite: the run's.
    """

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.recorded: list[Record] = []
        self.others_ran = 0
        # Node id to the environment that is to run it.
        self._owed: dict[str, str] = {}
        self._needs_backend = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Enter what is to be recorded."""
        if isinstance(item, SpecItem):
            self._owed[item.nodeid] = self._environment(item.subject)
        self._needs_backend |= item.get_closest_marker("requires_backend") is not None

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Iterable[str]) -> None:
        """Enter what xdist's workers are to run, each the same."""
        for node in ids:
            if (subject := self.suite.subjects.get(node.partition("::")[2])) is not None:
                self._owed[node] = self._environment(subject)

    def pytest_deselected(self, items: Iterable[pytest.Item]) -> None:
        """Strike out what an option leaves out, such as -k, --lf or --shard."""
        for item in items:
            self._owed.pop(item.nodeid, None)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Enter the arms that relations brought along."""
        for item in session.items:
            if isinstance(item, SpecItem):
                self._owed[item.nodeid] = self._environment(item.subject)

    def _environment(self, subject: Cell | Related) -> str:
        return self.suite.context.environment.of(backend_of(subject.axes)).name

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count tests of the project's own that ran, whatever came of them."""
        is_cell = "tunematrix" in vars(report) or report.nodeid in self._owed
        ran = report.when == "call" and (not report.skipped or "wasxfail" in vars(report))
        self.others_ran += ran and not is_cell

    @cached_property
    def planned(self) -> Counter[str]:
        """How many cells and relations each environment is to run.

        Ask for it first once all is collected, and before anything is settled.
        """
        each = {(node.partition("::")[2], environment) for node, environment in self._owed.items()}
        return Counter(environment for _, environment in each)

    def settle(self, node: str) -> None:
        """Strike out what has a record."""
        self._owed.pop(node, None)

    def owes(self, node: str) -> bool:
        """Whether a cell or relation has no record yet."""
        return node in self._owed

    def judged(self, code: int) -> tuple[int, str]:
        """Return what the run may end with, and why not with `code`; empty where it may."""
        if code != ExitCode.PASSED or not self._is_in_charge:
            return int(code), ""
        if bad := [record for record in self.recorded if self.suite.is_failure(record)]:
            return ExitCode.FAILED, f"not all is well: {_names(one.cell_id for one in bad)}"
        if not self.tested and not self.others_ran:
            return ExitCode.NOTHING_TESTED, self._why_nothing()
        if self._owed:
            return ExitCode.FAILED, f"there is no record of {self._kept_from_running()}"
        return code, ""

    def _why_nothing(self) -> str:
        if self.recorded:
            return ""
        return f"nothing was tested: {self._kept_from_running()}" if self._owed else NOTHING

    def _kept_from_running(self) -> str:
        names = _names(node.partition("::")[2] for node in self._owed)
        return (
            f"{names}: collected, but an option, a mark or a plug-in of pytest kept it from running"
        )

    @property
    def tested(self) -> bool:
        """Whether any cell really ran."""
        return any(record.outcome not in UNTESTED for record in self.recorded)

    @property
    def _is_in_charge(self) -> bool:
        arguments = self.suite.arguments
        named = arguments.environment is not None or names_environment(self.suite.config)
        return named or bool(arguments.spec_paths) or self._needs_backend


def check_collected(session: pytest.Session) -> None:
    """Refuse a run that leaves out specs which its command line reaches.

    Raises:
        pytest.UsageError: pytest passed over a folder or a file with cells, or was given one that
            isn't there.
    """
    config = session.config
    suite = config.stash[KEY]
    if not suite.arguments.spec_paths or getattr(config.option, "dist", "no") != "no":
        return
    absent = [one for one in config.args if not Path(one.partition("::")[0]).exists()]
    if absent and not config.option.pyargs:
        text = f"{_names(absent)}: there is no such file or folder"
        raise pytest.UsageError(f"{text}; -k chooses cells by words in their names")
    planned = {path for path, plan in suite.plans.items() if path and plan.cells}
    passed_over = sorted(planned - suite.read, key=str)
    left_out = [path for path in passed_over if suite.arguments.is_ignored(path)]
    if missing := [path for path in passed_over if path not in left_out]:
        text = f"{_names(map(shown, missing))}: planned, and pytest didn't collect it"
        raise pytest.UsageError(f"{text}; name it on the command line, or take it out of the specs")


def last_word(config: pytest.Config, code: int) -> int:
    """Return what the process ends with, after all of pytest's hooks; say what is wrong.

    A listing that the command line asks for is no run. One that a setting or a variable makes of a
    run is.
    """
    begun_by_xdist = is_worker(config)
    listed = LISTING.intersection(config.invocation_params.args)
    if not begun_by_xdist and not listed:
        if (ledger := config.stash.get(LEDGER, None)) is not None:
            code, why = ledger.judged(code)
        elif code == ExitCode.PASSED and names_environment(config):
            code, why = ExitCode.NOTHING_TESTED, NOTHING
        else:
            why = ""
        if why and why not in config.stash.get(TOLD, ""):
            complain(one_line(why))
    if not begun_by_xdist and (file := os.environ.get(ENDING)):
        Path(file).write_text(f"{int(code)}\n", encoding="utf-8")
    return code


def _names(names: Iterable[str]) -> str:
    every = list(names)
    more = len(every) - NAMED
    rest = f" and {counted(more, 'other')}" if more > 0 else ""
    return f"{', '.join(map(one_line, every[:NAMED]))}{rest}"


LEDGER = pytest.StashKey[Ledger]()
TOLD = pytest.StashKey[str]()
"""What the summary has said already."""


def register(config: pytest.Config, plugin: Any, name: str) -> None:
    """Register one of our plugins that no run can do without.

    Raises:
        pytest.UsageError: `-p no:NAME` wants it left out.
    """
    if config.pluginmanager.is_blocked(name) or config.pluginmanager.register(plugin, name) is None:
        message = f"-p no:{name}: without it nothing would be recorded; leave that option out"
        raise pytest.UsageError(message)
