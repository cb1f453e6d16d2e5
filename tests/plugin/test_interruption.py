"""Ctrl-C and kill -9 in mid-run: finished cells stay on record, and nothing keeps running."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from typing import TYPE_CHECKING

import pytest
from tests.plugin.test_report_html import shown as shown_in

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


def told_in_every_report(project: Project) -> None:
    """Whether each report of the newest run says how far it came, and none shows it as green."""
    shown = project.tunematrix("report", "-e", "plain").text
    assert "\ninterrupted: 2 of 4 ran\ncells: ✓ 2 passed\n" in shown
    page = project.tunematrix("report", "-e", "plain", "--markdown", "-").text
    assert page.startswith("## ◐ `plain`\n\n**interrupted: 2 of 4 ran**<br>\ncells: ✓ 2 passed\n")
    file = project.root / "page.html"
    assert project.tunematrix("report", "-e", "plain", "--html", str(file)).code == 0
    assert [run["interrupted"] for run in shown_in(file)["runs"]] == ["interrupted: 2 of 4 ran"]


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
    assert "! interrupted; what has run until then is in the report !" in out
    assert "KeyboardInterrupt" not in out + err and ".py:" not in out + err
    assert "✓ 2 passed" in out and "interrupted: 2 of 4 ran\n" in out
    assert "INTERNALERROR" not in out + err
    told_in_every_report(hanging)


def test_kill(hanging: Project) -> None:
    """The records are whole, and the cell and its daemon are gone soon after."""
    with hanging.started(COMMAND) as process:
        hanging.wait_for(lambda: hangs(hanging))
        assert len(hanging.still_running(seconds=0)) >= 4
        process.kill()
        process.wait()
        assert hanging.still_running(seconds=30) == []
    assert hanging.outcomes == dict.fromkeys(DONE, "passed")
    told_in_every_report(hanging)


def test_a_whole_run(project: Project) -> None:
    """Nothing was interrupted where cells are unsupported, or left out because nobody chose them.

    Of two runs in a file, each has a count of its own.
    """
    project.option("quantizer", "refused", "capabilities: {recipe: {}}\n")
    project.spec("a", "succeed", quantizers="[plain, tiny-int4, refused]")
    project.spec("b", "succeed")
    assert "interrupted" not in project.pytest("-k", "int4").text
    assert "interrupted" not in project.pytest("-p", "xdist", "-n", "2", "--dist=load").text
    planned = [(one["outcome"], one["planned"]) for one in project.records]
    assert sorted(planned) == [
        ("passed", 1), *[("passed", 3)] * 3, *[("unsupported", 0)] * 2,
    ]  # fmt: skip
    for form in ([], ["--markdown", "-"]):
        shown = project.tunematrix("report", "-e", "plain", *form)
        assert shown.code == 0 and "interrupted" not in shown.text


def test_stopped_at_the_first_failure(project: Project) -> None:
    """What -x left out didn't run either."""
    project.spec("a", "refuse", "markers: [smoke]\n")
    project.spec("b", "hang")
    assert "interrupted: 1 of 2 ran\n" in project.pytest("-x").text
    shown = project.tunematrix("report", "-e", "plain", "--markdown", "-")
    assert "## ✗ `plain`\n\n**interrupted: 1 of 2 ran**" in shown.text


def test_ctrl_c_before_a_cell_has_ended(project: Project) -> None:
    """One line says so; in a file, too, each line is there as soon as it is written.

    That the libraries are imported would come too late once they are.
    """
    project.spec("a", "hang")
    out = project.root / "out"
    into_a_file = ["sh", "-c", f"exec {shlex.join(COMMAND)} > out"]
    with project.started(into_a_file) as process:
        project.wait_for(lambda: list(project.root.glob(".tunematrix/**/hanging")))
        early = out.read_text()
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=120)
        assert project.still_running(seconds=30) == []
    assert "importing the libraries, once for all cells\n" in early, early
    text = out.read_text()
    assert "! interrupted before a cell had ended; nothing is recorded of this run !" in text
    assert "KeyboardInterrupt" not in text


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
