"""One config on its way to a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tunematrix.inspection.interpolations import Interpolated
from tunematrix.inspection.layout import Layout
from tunematrix.inspection.reports import ConfigReport
from tunematrix.spec.problems import Problem, Route, dotted


@dataclass
class Examined:
    """One config on its way to a report.

    Attributes:
        report: what is known so far. resolved: its values; None where it couldn't be composed.
        home: returns the file that gave a value, and its route there.
        is_own: whether it was composed for this file, not for another that includes it.
    """

    report: ConfigReport
    resolved: Interpolated | None = None
    home: Callable[[Route], tuple[Layout | None, Route]] | None = None
    is_own: bool = True

    def is_to_blame_for(self, problem: Problem, in_bases: set[Problem]) -> bool:
        """Return whether a problem belongs in this report: for an option, not its config's."""
        if self.report.kind == "config" or problem.file == self.report.file:
            return True
        return self.report.kind == "option" and self.is_own and problem not in in_bases

    def place(self, route: Route, text: str) -> Problem:
        """Return a problem with a value, where it stands in its file."""
        layout, there = self.home(route) if self.home else (None, route)
        if layout is None:
            return Problem(self.report.file, None, route, text)
        return Problem(layout.path, layout.line(there), route, text)

    def add_resolution(self, broken_setup: Sequence[str]) -> Examined:
        """Add what can't be resolved, and what is still needed, to the report.

        Args:
            broken_setup: why modules that may register resolvers couldn't be imported.
        """
        problems, notes = [], []
        for one in self.resolved.unresolved if self.resolved else ():
            since = f"; it may be since {broken_setup[0]}" if broken_setup else ""
            text = f"{one.text}{since}" if one.resolver else one.text
            problems.append(self.place(one.route, text))
        resolved = self.resolved
        if resolved is not None and resolved.missing:
            notes.append("needs " + ", ".join(dotted(route) for route in resolved.missing))
        if resolved is not None and resolved.variables:
            names = ", ".join(dict.fromkeys(resolved.variables))
            notes.append(f"needs the environment variable {names}")
        report = self.report.with_problems(tuple(problems))
        self.report = replace(report, notes=(*report.notes, *notes))
        return self
