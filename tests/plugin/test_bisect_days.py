"""`tunematrix bisect` between two days, over an index that says when releases were published."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from tests.plugin.conftest import PYPROJECT
from tests.plugin.dated_index import dated_index
from tests.unit.environments import packing

from tunematrix.paths import python_path

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject, Project

pytestmark = [pytest.mark.slow, pytest.mark.nightly]

ITEM = "quiet[plain-plain]"
RECORDS = ".tunematrix/versions/*/plain/results.jsonl"
CODE = """
import wibble
RELEASE = {release}
def load():
    import sys
    if {bad} or wibble.RELEASE >= 4:
        print('wobbling', file=sys.stderr)
"""
DAYS = {
    "wobble-1": "2026-01-05", "wibble-1": "2026-01-05",
    "wobble-2": "2026-02-01", "wibble-2": "2026-02-03",
    "wobble-3": "2026-03-01", "wibble-3": "2026-03-01",
    "wobble-4": "2026-04-01", "wibble-4": "2026-05-01",
}  # fmt: skip


@pytest.fixture(scope="module")
def project(new_project: NewProject) -> Iterator[Project]:
    """A project whose environment has two libraries; wobble 3 breaks its cell."""
    made = new_project()
    wheels = made.root / "wheels"
    for release in (1, 2, 3, 4):
        code = CODE.format(release=release, bad=release >= 3)
        # Until wobble 4, each takes the wibble of its own time.
        packing.wheel(wheels, "wobble", str(release), [f"wibble<={release}"], text=code)
        packing.wheel(wheels, "wibble", str(release), text=f"RELEASE = {release}\n")
    installed = made.root / "installed"
    for wheel in wheels.glob("*-4-*.whl"):
        zipfile.ZipFile(wheel).extractall(installed)
    made.write("pyproject.toml", PYPROJECT + 'packages = ["wobble", "wibble"]\n')
    made.spec("quiet", "lean_on_wobble", "stderr: {forbidden_patterns: [wobbling]}\n")
    made.variables["PYTHONPATH"] = os.pathsep.join([str(installed), python_path()])
    made.variables["PIP_FIND_LINKS"] = made.variables["PIP_EXTRA_INDEX_URL"] = ""
    with dated_index(wheels, DAYS) as address:
        made.variables["PIP_INDEX_URL"] = address
        yield made


def test_between_two_days(project: Project) -> None:
    """Of releases of two libraries, the one that broke it is named, with its day."""
    ends = ("--good=2026-01-10", "--bad=2026-04-15")
    run = project.tunematrix("bisect", ITEM, *ends, "--environment=plain", "--json")
    assert run.code == 0, run.text
    (found,) = json.loads(run.text[run.text.index("{\n") : run.text.rindex("\n}") + 2])["found"]
    (culprit,) = found["culprits"]
    assert (culprit["name"], culprit["last_good"], culprit["first_bad"]) == ("wobble", "2", "3")
    assert [day[:10] for day in culprit["published"]] == ["2026-02-01", "2026-03-01"]
    assert "4 moments of releases from 2026-02-01 to 2026-04-01" in run.text
    assert found["runs"] <= 8


def test_from_where_it_passed_last(project: Project) -> None:
    """Without a good end, it is the versions that the newest record which passed was made with."""
    made = [json.loads(line) for file in project.root.glob(RECORDS) for line in file.open()]
    passed = next(record for record in made if record["outcome"] == "passed")
    older = {**passed, "versions": {"wobble": "2", "wibble": "2"}}
    project.write(".tunematrix/plain/results.jsonl", json.dumps(older) + "\n")
    run = project.tunematrix("bisect", ITEM, "--bad=2026-04-15", "--environment=plain")
    assert run.code == 0, run.text
    assert "good end: wibble==2,wobble==2" in run.text
    assert f"{ITEM} was broken by wobble 3" in run.text
