"""`tunematrix bisect` as a user runs it, over releases of libraries that are made here."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.environments import packing

if TYPE_CHECKING:
    from pathlib import Path

    from tests.plugin.conftest import NewProject, Project, Run

pytestmark = pytest.mark.slow

ITEM = "quiet[plain-plain]"
RECORDS = ".tunematrix/versions/*/plain/results.jsonl"
GOOD = "def load():\n    pass\n"
WORDY = "import sys\ndef load():\n    print('wobbling', file=sys.stderr)\n"
BENT = "raise ImportError('no name')\n"
RELEASES = {
    "1.0": GOOD, "1.1": GOOD, "1.2": GOOD, "1.3": BENT, "1.4": GOOD, "1.5": WORDY, "1.6": WORDY,
    "1.7": WORDY,
}  # fmt: skip
BOTH = """
import sys, wibble
def load():
    if wibble.RELEASE >= 2:
        print('wobbling', file=sys.stderr)
"""
LEAVES = WORDY + "    import subprocess\n    subprocess.Popen(['sleep', '60'])\n"
FLAKY = """
import pathlib, sys
def load():
    mark = pathlib.Path(__file__).with_name('mark')
    if mark.exists():
        print('wobbling', file=sys.stderr)
    mark.touch()
"""


def _release(project: Project, name: str, version: str, text: str) -> Path:
    return packing.wheel(project.root / "wheels", name, version, text=text)


@pytest.fixture(scope="module")
def project(new_project: NewProject) -> Project:
    """A project with a cell that leans on a library, of which there are several releases."""
    made = new_project()
    for version, text in RELEASES.items():
        _release(made, "wobble", version, text)
    others = {"3.0": GOOD, "3.1": BOTH, "4.0": FLAKY, "5.0": GOOD, "5.1": WORDY, "5.2": LEAVES}
    for version, text in others.items():
        _release(made, "wobble", version, text)
    for release in (1, 2, 3):
        _release(made, "wibble", f"{release}.0", f"RELEASE = {release}\n")
    made.variables["PIP_NO_INDEX"] = "1"
    made.variables["PIP_FIND_LINKS"] = str(made.root / "wheels")
    made.spec("quiet", "lean_on_wobble", "stderr: {forbidden_patterns: [wobbling]}\n")
    return made


def _bisect(project: Project, good: str, bad: str, *more: str) -> Run:
    ends = (f"--good={good}", f"--bad={bad}")
    return project.tunematrix("bisect", ITEM, *ends, "--environment=plain", *more)


def _found(run: Run) -> dict[str, Any]:
    (found,) = _all_found(run)
    return found


def _all_found(run: Run) -> list[dict[str, Any]]:
    text = run.text
    return list(json.loads(text[text.index("{\n") : text.rindex("\n}") + 2])["found"])


@pytest.fixture(scope="module")
def found(project: Project) -> tuple[dict[str, Any], Run]:
    """What it finds between the first and the last release of wobble 1, once interrupted."""
    command = [sys.executable, "-m", "tunematrix", "bisect", ITEM, "--environment=plain"]
    before = len([*project.root.glob(RECORDS)])  # of tests that ran earlier
    with project.started([*command, "--good=wobble==1.0", "--bad=wobble==1.7"]) as process:
        project.wait_for(lambda: len([*project.root.glob(RECORDS)]) > before + 1)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 2 and "recorded" in said, said
    run = _bisect(project, "wobble==1.0", "wobble==1.7", "--json")
    assert run.code == 0, run.text
    return _found(run), run


def test_the_release_is_found(found: tuple[dict[str, Any], Run]) -> None:
    """The last good and the first bad one are named, in no more runs than are promised."""
    (culprit,) = found[0]["culprits"]
    assert (culprit["name"], culprit["last_good"], culprit["first_bad"]) == ("wobble", "1.4", "1.5")
    assert found[0]["signature"] == "failed: stderr"
    assert found[0]["runs"] == 3 + 3 + 1  # one more for what can't be tested
    assert found[0]["mended"] is False


def test_it_went_on_where_it_was(found: tuple[dict[str, Any], Run]) -> None:
    """What had been run before the interruption wasn't run again."""
    assert found[0]["known_before"] >= 2


def test_what_cannot_be_tested(found: tuple[dict[str, Any], Run]) -> None:
    """A release that fails in another way is stepped over, and told."""
    ((told, why),) = found[0]["untestable"].items()
    assert told == "wobble 1.3" and "ImportError" in why


def test_what_it_takes_is_told(found: tuple[dict[str, Any], Run]) -> None:
    """How many runs may follow, and the disk that overlays take, are said on the way."""
    assert "at most 3 left" in found[1].text
    assert "overlays: 0.0 of 20 GB" in found[1].text


@pytest.mark.usefixtures("found")
def test_nothing_known_is_run_again(project: Project) -> None:
    """Run again, it tells the same from what is known; what it found is its output."""
    command = f"{sys.executable} -m tunematrix bisect '{ITEM}' --environment=plain"
    ends = "--good=wobble==1.0 --bad=wobble==1.7"
    run = project.run(["sh", "-c", f"{command} {ends} 2>/dev/null"])
    assert run.code == 0
    assert f"{ITEM} was broken by wobble 1.5" in run.text
    assert "7 runs, 7 of them known before" in run.text
    assert "PYTHONPATH=.tunematrix/overlays/" in run.text


@pytest.mark.nightly
def test_what_is_known_outlives_a_page(new_project: NewProject) -> None:
    """A page that changes, committed or not, makes nothing run again; the cell's own code does."""
    made = new_project()
    for version in ("1.0", "1.5"):
        _release(made, "wobble", version, RELEASES[version])
    made.variables.update({"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(made.root / "wheels")})
    made.spec("quiet", "lean_on_wobble", "stderr: {forbidden_patterns: [wobbling]}\n")
    made.run(["git", "init", "-q"])
    known = list[int]()
    for file in ("README.md", "docs/why.md", "docs/why.md", "cells.py"):
        if file.endswith(".md"):
            made.write(file, f"page {len(known)}\n")
        else:
            made.write(file, "# other\n")
        if len(known) < 2:
            for command in (["add", "."], ["commit", "-qm", "some"]):
                made.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *command])
        run = _bisect(made, "wobble==1.0", "wobble==1.5", "--json")
        assert run.code == 0, run.text
        known.append(_found(run)["known_before"])
    assert known == [0, 4, 4, 0]


@pytest.mark.nightly
def test_two_that_must_move_together(project: Project) -> None:
    """Neither alone does it: both are named, each with its release."""
    run = _bisect(project, "wobble==3.0,wibble==1.0", "wobble==3.1,wibble==3.0", "--json")
    assert run.code == 0, run.text
    found = [(one["name"], one["last_good"], one["first_bad"]) for one in _found(run)["culprits"]]
    assert found == [("wibble", "1.0", "2.0"), ("wobble", "3.0", "3.1")]


@pytest.mark.nightly
def test_two_checks_of_two_releases(project: Project) -> None:
    """Each check that fails at the bad end gets the release that broke it."""
    run = _bisect(project, "wobble==5.0", "wobble==5.2", "--json")
    assert run.code == 0, run.text
    found = [(one["checks"], one["culprits"][0]["first_bad"]) for one in _all_found(run)]
    assert found == [(["stderr"], "5.1"), (["left_behind"], "5.2")]


@pytest.mark.nightly
def test_another_that_differs_has_not_moved_with_it(project: Project) -> None:
    """Of two packages that are named, the one that makes no difference isn't told as carried."""
    run = _bisect(project, "wobble==1.4,wibble==1.0", "wobble==1.5,wibble==2.0", "--json")
    assert run.code == 0, run.text
    found = _found(run)
    assert ([one["name"] for one in found["culprits"]], found["carried"]) == (["wobble"], [])


@pytest.mark.each_time(1)
@pytest.mark.usefixtures("found")
@pytest.mark.parametrize(
    ("good", "bad", "code", "text"),
    [
        ("wobble==1.6", "wobble==1.7", 4, "both ends are alike"),
        ("wobble==1.0", "wobble==1.1", 4, "the bad end isn't bad"),
        ("wobble==1.0", "wobble==1.0", 4, "are the same packages"),
        ("wobble==1.0", "wobble==9.9", 4, "wobble==9.9"),
        ("wobble==1.0", "wabble==1.0", 4, "wabble"),
        ("wobble==1.0", "wobble==4.0", 4, "is flaky"),
    ],
)
def test_ends_that_will_not_do(project: Project, good: str, bad: str, code: int, text: str) -> None:
    """What is wrong with them is said, before anything lies in between is tried."""
    run = _bisect(project, good, bad)
    assert (run.code, text in run.text) == (code, True), run.text


def test_no_such_item(project: Project) -> None:
    """A name that isn't there is bad input, with what may have been meant."""
    run = project.tunematrix("bisect", "quite[plain-plain]", "--good=wobble==1.0", "-eplain")
    assert run.code == 4 and ITEM in run.text
    run = project.tunematrix("bisect", "x" * 5000, "--good=wobble==1.0", "-eplain")
    assert (run.code, run.text) == (4, "error: a name that was given is too long for a file\n")


def test_no_good_end(project: Project) -> None:
    """Where nothing passed before, a set has to be named."""
    run = project.tunematrix("bisect", ITEM, "--bad=wobble==1.7", "-eplain")
    assert run.code == 4 and "name a set with --good" in run.text
