"""A run on a terminal: the matrix fills in below, failures are told above it, as they come."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from tests.plugin.conftest import FOREIGN
from tests.plugin.screens import Watched, watched

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject, Project

LIVE = [sys.executable, "-m", "pytest", "--environment=plain", "--live"]
SUMMARY = re.compile(r"^(\d+ of \d+ done|getting ready|importing the libraries)", re.MULTILINE)


def run(
    project: Project,
    *arguments: str,
    keys: Callable[[str], bytes] = lambda picture: b"",
    width: int = 80,
    **variables: str,
) -> Watched:
    """Run a project's specs in a terminal."""
    own = {key: value for key, value in os.environ.items() if key not in {*FOREIGN, "TERM"}}
    environment = {**own, **project.variables, **variables}
    del environment["COLUMNS"]
    return watched([*LIVE, *arguments], project.root, environment, keys, width)


@pytest.fixture(scope="module")
def seen(new_project: NewProject) -> Watched:
    """A run of cells of which one fails, another is unsupported, and four pass."""
    project = new_project()
    project.option("quantizer", "refused", "capabilities: {recipe: {}}\n")
    project.spec("a", "refuse", "markers: [smoke]\n")
    project.spec("b", "succeed", quantizers="[plain, tiny-int4, refused]")
    speed = "throughput: {min_tokens_per_second: 1}\n"
    project.spec("c", "avoid", speed, quantizers="[plain, tiny-int4]")
    return run(project)


def test_the_matrix_fills_in(seen: Watched) -> None:
    """A square waits, runs and ends; beside it stand what runs, how many are done, the outcomes."""
    assert seen.code == 1
    drawn = [picture for picture in seen.pictures if SUMMARY.search(picture)]
    first, last = drawn[0], drawn[-1]
    assert re.search(r"^ +plain +refused +tiny\n +int4\n", first, re.MULTILINE)
    assert re.search(r"^succeed +lora +[○▸] +· +[○▸]$", first, re.MULTILINE)
    assert any("▸ c[plain-plain]  " in picture for picture in drawn)
    assert any(re.search(r"^avoid +lora +[✓▸] +▸", one, re.MULTILINE) for one in drawn)
    assert re.search(r"^refuse +lora +✗$", last, re.MULTILINE)
    assert re.search(r"^succeed +lora +✓ +· +✓$", last, re.MULTILINE)
    assert "5 of 5 done   ✗ 1 failed   ✓ 4 passed\n" in last


def test_no_picture_has_two_of_them(seen: Watched) -> None:
    """What was drawn before is gone, and no line of pytest's for each item stands beside it."""
    for picture in seen.pictures:
        assert len(SUMMARY.findall(picture)) <= 1
        assert "PASSED" not in picture and "specs/b.yaml" not in picture


def test_a_failure_is_told_at_once_and_only_once(seen: Watched) -> None:
    """With check, bound, the end of stderr and the command, before the others have ended."""
    early = next(picture for picture in seen.pictures if "run again: " in picture)
    assert not re.search(r"^5 of 5 done", early, re.MULTILINE)
    report = early.partition("_ a[plain-plain] _")[2]
    assert "exit: measured exit code 1, bound exit code 0" in report
    assert "\n  ValueError: integers take no gradient\n" in report
    assert seen.text.count("measured exit code 1") == 1
    assert "= FAILURES =" not in seen.text
    assert "\nFAILED specs/a.yaml::a[plain-plain] - exit: " in seen.text
    assert seen.text.index("run again: ") < seen.text.index("5 of 5 done")


def test_ctrl_c(project: Project) -> None:
    """The matrix goes away, the records are kept, and the terminal is as it was."""
    project.spec("a", "succeed", "markers: [smoke]\n")
    project.spec("b", "hang")
    pressed: list[bool] = []

    def press(picture: str) -> bytes:
        if pressed or "▸ b[" not in picture or "1 passed" not in picture:
            return b""
        pressed.append(True)
        return b"\x03"

    ended = run(project, keys=press)
    assert (ended.code, ended.modes_kept) == (2, True), ended.text
    assert "interrupted: 1 of 2 ran" in ended.text and "✓ 1 passed" in ended.text
    assert "what has run until then is in the report" in ended.text
    assert "KeyboardInterrupt" not in ended.text
    assert not SUMMARY.search(ended.text)
    assert project.outcomes == {"a[plain-plain]": "passed"}
    assert project.still_running(seconds=30) == []


@pytest.mark.parametrize("seconds", [0.0, 0.1])
def test_ctrl_c_while_libraries_are_imported(project: Project, seconds: float) -> None:
    """It is said that they are; nothing of the process that imports them is seen."""
    project.spec("a", "succeed")
    pressed: list[bool] = []

    def press(picture: str) -> bytes:
        if pressed or "importing the libraries; 1 to run" not in picture:
            return b""
        pressed.append(True)
        time.sleep(seconds)
        return b"\x03"

    ended = run(project, keys=press)
    assert pressed and (ended.code, ended.modes_kept) == (2, True), ended.text
    assert "Traceback" not in ended.text and "Error" not in ended.text, ended.text
    assert "interrupted before a cell had ended" in ended.text
    assert "KeyboardInterrupt" not in ended.text
    assert project.still_running(seconds=30) == []


def test_a_narrow_terminal_and_the_first_failure(project: Project) -> None:
    """The matrix is left out where it doesn't fit; with -x, it ends and is taken away."""
    project.spec("a", "refuse", "markers: [smoke]\n")
    project.spec("b", "hang")
    ended = run(project, "-x", width=18)
    assert ended.code == 1
    drawn = [picture for picture in ended.pictures if SUMMARY.search(picture)]
    assert drawn and not any(re.search("^(refuse|hang) ", one, re.MULTILINE) for one in drawn)
    assert not SUMMARY.search(ended.text)


def test_where_nobody_watches(project: Project) -> None:
    """There is a line for each cell, as in a file, and the failure's report below its own."""
    project.spec("a", "refuse", "markers: [smoke]\n")
    project.spec("b", "succeed")
    ended = run(project, "-p", "xdist", "-n", "0", CI="true")
    assert ended.code == 1
    assert not any(SUMMARY.search(picture) for picture in ended.pictures)
    lines = ended.text
    order = ["specs/a.yaml::a[plain-plain] FAILED", "run again: ", "specs/b.yaml::b[plain-plain] P"]
    assert [lines.index(text) for text in order] == sorted(lines.index(text) for text in order)
    assert lines.count("run again: ") == 1
