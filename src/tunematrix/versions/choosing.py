"""Arguments of pytest → the cells and relations that they choose; pytest itself chooses."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout

import pytest

from tunematrix.errors import BadInput, NothingTested
from tunematrix.plugin.items import SpecItem
from tunematrix.plugin.suite import KEY
from tunematrix.project import Project
from tunematrix.versions.points import Point, points_of

TOLD = 12
"""Lines of what pytest says last, of arguments that it can't use."""


class _Chosen:
    """A plugin that keeps what pytest would run."""

    def __init__(self) -> None:
        self.points: list[Point] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Keep the cells and relations; tests written in Python have no record to compare."""
        names = [item.name for item in session.items if isinstance(item, SpecItem)]
        if names:
            there = points_of(session.config.stash[KEY].plan)
            self.points = [there[name] for name in names if name in there]


def chosen_points(project: Project, options: Sequence[str]) -> tuple[Point, ...]:
    """Return what pytest would run of a project's specs.

    Args:
        project: whose specs. options: of pytest: markers, words, axes, files.

    Raises:
        BadInput: pytest can't use the options. NothingTested: they choose no cell.
    """
    chosen, said = _Chosen(), io.StringIO()
    quiet = ["--collect-only", "-q", "--disable-warnings", "-p", "no:cacheprovider"]
    ours = [f"--environment={project.environment.name}"]
    with redirect_stdout(said), redirect_stderr(said):
        code = pytest.main([*quiet, *ours, *options], plugins=[chosen])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        lines = [line for line in said.getvalue().splitlines() if line.strip()]
        raise BadInput("\n  ".join(["pytest can't use these arguments:", *lines[-TOLD:]]))
    if not chosen.points:
        text = "these arguments choose no cell"
        raise NothingTested(
            f"{text}; tunematrix run --collect-only -q ARGUMENTS shows what they do"
        )
    return tuple(dict.fromkeys(chosen.points))
