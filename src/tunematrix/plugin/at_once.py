"""The report of each cell that fails, as soon as it has ended."""

from __future__ import annotations

import pytest

LEFT_TO_PYTEST = ("no", "line")
"""Values of `--tb` that ask for less than a report of each failure."""


class AtOnce:
    """Shows what pytest would keep for the end; there, it is counted and not told again.

    What isn't a cell's, such as a test's in Python, stays with pytest.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Show a failure below the line of its cell."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        of_a_cell = "tunematrix" in vars(report)
        if reporter is None or not (of_a_cell and report.failed):
            return
        if self._config.option.tbstyle in LEFT_TO_PYTEST:
            return
        reporter.write_sep("_", report.head_line, red=True, bold=True)
        reporter._outrep_summary(report)
        reporter.flush()
        # By this, pytest knows of a failure that a debugger has shown already.
        vars(report)["_pdbshown"] = True
