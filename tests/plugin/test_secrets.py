"""Credentials of the environment reach no record, no JUnit file and no terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

SECRET = "hunter2-hunter2"


def test_secrets_stay_where_they_are(project: Project) -> None:
    """Though the cell prints, records and raises one; its variable's name stands instead."""
    project.spec("told", "tell_secrets")
    project.spec("last", "crash_with_secrets")
    run = project.pytest("-vv", TINY_API_TOKEN=SECRET)
    assert run.code == 1
    assert "RuntimeError: refused with <TINY_API_TOKEN>" in run.text
    assert "last words <TINY_API_TOKEN>" in run.text
    written = [run.text]
    for file in ("results.jsonl", "junit.xml", "runs/*/*/events.jsonl", "runs/*/*/cell.json"):
        written += [path.read_text() for path in project.root.glob(f".tunematrix/plain/{file}")]
    assert len(written) == 7
    assert not [text for text in written if SECRET in text]
