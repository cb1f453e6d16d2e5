"""A run in another process isn't silent."""

from __future__ import annotations

import time

import pytest

from tunematrix.versions.progress import progress_line, told_progress


@pytest.mark.parametrize(
    ("done", "seconds", "line"),
    [
        (0, 20.0, "  0 of 10 done"),
        (4, 20.0, "  4 of 10 done, about 30 s left"),
        (10, 20.0, "  10 of 10 done"),
    ],
)
def test_a_line(done: int, seconds: float, line: str) -> None:
    """The time that is left follows from what is done; nobody knows it before."""
    assert progress_line(done, 10, seconds) == line


def test_lines_come_while_it_runs_and_end_with_it() -> None:
    """None is told of a run that has ended."""
    lines: list[str] = []
    with told_progress(lambda: 1, 2, lines.append, every=0.01):
        while not lines:
            time.sleep(0.01)
    told = len(lines)
    time.sleep(0.05)
    assert lines[0].startswith("  1 of 2 done, about") and len(lines) == told
