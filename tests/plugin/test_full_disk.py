"""Where nothing can be written: never a pass, and the text says what is in the way."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tunematrix.results.record import Record
from tunematrix.results.store import Store

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

LIMITED = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
runpy.run_module("pytest", run_name="__main__")
"""


@pytest.fixture
def good(project: Project) -> Project:
    """Three cells that would pass."""
    project.spec("good", "succeed", quantizers="[plain, tiny-int4]")
    project.spec("more", "succeed")
    return project


def test_no_space_for_records(good: Project) -> None:
    """The run stops at the first record that can't be written, with the code for that."""
    good.write(".tunematrix/plain/about.txt", "")
    (good.root / ".tunematrix/plain/results.jsonl").symlink_to("/dev/full")
    run = good.pytest()
    assert run.code == 6
    path = good.root / ".tunematrix/plain/results.jsonl"
    # Whichever of those that run side by side ends first.
    (cell,) = re.findall(rf"can't record (\S+) in {path}: No space left on device", run.text)
    assert good.junit() == {cell: "passed"}


def test_records_into_a_pipe(good: Project) -> None:
    """Nobody reads it, and nobody waits for it."""
    good.write(".tunematrix/plain/about.txt", "")
    os.mkfifo(good.root / ".tunematrix/plain/results.jsonl")
    run = good.pytest()
    assert run.code == 6
    assert "can't record " in run.text


def test_a_cell_by_hand_on_a_disk_that_is_read_only(good: Project) -> None:
    """Its spec can't be written, and that is said: a file is where its folder should be."""
    good.write(".tunematrix", "")
    run = good.tunematrix("run", "-e", "plain", "recipe=succeed", "quantizer=plain")
    assert run.code == 6
    assert "error: can't write to .tunematrix/adhoc: Not a directory" in run.text


def test_space_that_runs_out(good: Project) -> None:
    """The records before it stay as they were."""
    before = '{"older": "record"}\n' * 1000
    records = good.write(".tunematrix/plain/results.jsonl", before)
    good.write("limited.py", LIMITED.format(size=len(before) + 100))
    run = good.run([sys.executable, "limited.py", "--environment=plain"])
    assert run.code == 6
    assert "can't record " in run.text
    assert "File too large; the records before it are safe" in run.text
    assert records.read_text().startswith(before)


def test_no_space_for_the_junit_file(good: Project) -> None:
    """Which pytest writes itself, at the very end: what ran is shown, and the code says it."""
    good.write(".tunematrix/plain/about.txt", "")
    (good.root / ".tunematrix/plain/junit.xml").symlink_to("/dev/full")
    run = good.pytest("specs/more.yaml")
    assert run.code == 6
    assert "can't write .tunematrix/plain/junit.xml: No space left on device" in run.text
    assert "Traceback" not in run.text and "INTERNALERROR" not in run.text
    assert "cells: ✓ 1 passed" in run.text


@pytest.mark.parametrize(
    ("in_the_way", "code", "text"),
    [
        (".tunematrix", 6, "Exit: can't write to .tunematrix/plain: "),
        (".tunematrix/plain/runs", 1, "can't write to .tunematrix/plain: [Errno 20]"),
    ],
)
def test_a_file_in_the_way_of_a_folder(
    good: Project, in_the_way: str, code: int, text: str
) -> None:
    """It is named, and no cell passes."""
    good.write(in_the_way, "")
    run = good.pytest("specs/more.yaml")
    assert run.code == code
    assert text in run.text
    assert "INTERNALERROR" not in run.text


@pytest.mark.each_time(2)
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("view", [[], ["--markdown", "-"]])
def test_no_space_for_what_is_shown(project: Project, view: list[str], unbuffered: str) -> None:
    """Whether it is noticed at once or only as the buffer is emptied: no traceback, and code 6."""
    Store(project.root / "some.jsonl").append(Record("r", "a[x]", "a.yaml", "plain", {}, "passed"))
    words = " ".join([sys.executable, "-m", "tunematrix", "report", "some.jsonl", *view])
    run = project.run(["sh", "-c", f"{words} >/dev/full"], PYTHONUNBUFFERED=unbuffered)
    assert run.code == 6
    message = "can't write all there is to say: No space left on device; make room and try again"
    assert run.text == f"error: {message}\n"


@pytest.mark.each_time(3)
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("verb", ["report some.jsonl", "report some.jsonl --json", "--help"])
def test_a_reader_that_has_seen_enough(project: Project, verb: str, unbuffered: str) -> None:
    """As `head` has: the end is that of other tools, 128 + SIGPIPE, without a word."""
    Store(project.root / "some.jsonl").append(Record("r", "a[x]", "a.yaml", "plain", {}, "passed"))
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "tunematrix", *verb.split()]
    variables = {**project.variables, "PYTHONUNBUFFERED": unbuffered}
    ended = subprocess.run(
        command,
        cwd=project.root,
        env={**os.environ, **variables},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, "")
