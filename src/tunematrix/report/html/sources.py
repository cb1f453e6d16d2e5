"""Where a page's records come from: files of records, and the history of a project."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tunematrix.report.html.gathering import MOST_PAST, Lines
from tunematrix.results.history import History
from tunematrix.results.store import Store


def lines_of(file: Path) -> Lines:
    """Return the lines of a file of records; none where there is no file, or a device."""

    def lines() -> Iterator[tuple[bytes, str]]:
        # Where a run records to a device, its page is the least of its worries.
        for number, line in enumerate(Store(file).lines() if file.is_file() else (), 1):
            yield line, f"{file}:{number}"

    return lines


def recorded(folder: Path, state: Path) -> list[Lines]:
    """Return all that is known of an environment: its history, if there is one, and its records.

    Args:
        folder: of the environment, which has its name. state: of the project.
    """
    history = state / "history.sqlite"
    before = [_remembered(history, folder.name)] if history.is_file() else []
    return [*before, lines_of(folder / "results.jsonl")]


def _remembered(file: Path, environment: str) -> Lines:
    def lines() -> Iterator[tuple[bytes, str]]:
        with History(file) as history:
            # One run more than a cell shows: the newest is among them.
            for number, line in enumerate(history.recent(environment, MOST_PAST + 1), 1):
                yield line, f"{file}, record {number}"

    return lines
