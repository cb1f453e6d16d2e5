"""Ctrl-C and kill -9 in mid-run: finished cells stay on record, and nothing keeps running."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

COMMAND = [sys.executable, "-m", "pytest", "--environment=plain"]
DONE = ["a[plain-plain]", "a[plain-tiny-int4]"]


@pytest.fixture
def hanging(project: Project) -> Project:
    """Two cells that pass, and two that hang, side by side where there are cores."""
    project.spec("a", "succeed", quantizers="[plain, tiny-int4]")
    project.spec("b", "hang")
    project.spec("c", "hang")
    return project


def hangs(project: Project) -> bool:
    """Whether the third cell is under way, and the first two are on record."""
    hanging = list(project.root.glob(".tunematrix/**/hanging"))
    return bool(hanging) and len(project.records) == len(DONE)


def test_ctrl_c(hanging: Project) -> None:
    """Exit code 2, with the records and the JUnit file of what has finished."""
    with hanging.started(COMMAND) as process:
        hanging.wait_for(lambda: hangs(hanging))
        # The terminal signals the whole foreground group.
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=120)
        assert hanging.still_running(seconds=30) == []
    assert process.returncode == 2, out + err
    assert hanging.outcomes == dict.fromkeys(DONE, "passed")
    assert hanging.junit() == dict.fromkeys(DONE, "passed")
    assert "KeyboardInterrupt" in out
    assert "✓ 2 passed" in out
    assert "INTERNALERROR" not in out + err


def test_kill(hanging: Project) -> None:
    """The records are whole, and the cell and its daemon are gone soon after."""
    with hanging.started(COMMAND) as process:
        hanging.wait_for(lambda: hangs(hanging))
        assert len(hanging.still_running(seconds=0)) >= 4
        process.kill()
        process.wait()
        assert hanging.still_running(seconds=30) == []
    assert hanging.outcomes == dict.fromkeys(DONE, "passed")


def test_ctrl_c_before_it_has_begun(project: Project) -> None:
    """While the command line's libraries are imported there is nothing to end, or to tell."""
    slow = "import pathlib, time\npathlib.Path('imported').touch()\ntime.sleep(60)\n"
    (project.root / "typer.py").write_text(slow, encoding="utf-8")
    command = [sys.executable, "-m", "tunematrix", "plan"]
    with project.started(command) as process:
        project.wait_for((project.root / "imported").exists)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)
    assert (process.returncode, said) == (2, ("", ""))
