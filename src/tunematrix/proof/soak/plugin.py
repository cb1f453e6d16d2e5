"""pytest's hooks for a run under several seeds: what depended on one is told at its end.

Loaded by `tunematrix soak` alone, beside the hooks that run the cells.
"""

from __future__ import annotations

import json

import pytest

from tunematrix.paths import state
from tunematrix.plugin.recorder import record_of
from tunematrix.proof.soak import view
from tunematrix.proof.soak.margins import soak
from tunematrix.report import terminal
from tunematrix.results.record import Record

SOAK = "soak.json"
"""Below `.tunematrix/`: what a run under several seeds came to."""


class SoakSummary:
    """Folds all records of a run, those of xdist's workers too, into one summary."""

    def __init__(self, config: pytest.Config) -> None:
        self.path = state(config.rootpath) / SOAK
        self.records: list[Record] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the record of each item that has ended."""
        if (record := record_of(report)) is not None:
            self.records.append(record)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Write the summary and show it."""
        if not self.records:
            return
        result = soak(self.records)
        terminalreporter.section("tunematrix soak")
        screen = terminalreporter._tw
        text = terminal.render(view.summary(result), screen.fullwidth, colour=screen.hasmarkup)
        terminalreporter.write(text)
        try:
            self.path.write_text(json.dumps(result.to_json(), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            problem = f"can't write {self.path}: {error.strerror}; free some space"
            terminalreporter.write_line(problem, red=True)


def pytest_configure(config: pytest.Config) -> None:
    """Listen where records are written."""
    if not hasattr(config, "workerinput") and not config.getoption("collectonly"):
        config.pluginmanager.register(SoakSummary(config), "tunematrix-soak")
