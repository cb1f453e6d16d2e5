"""Whatever pytest's options, its plug-ins or a conftest.py do, an untested run is never green."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.plugin.ways_round import RECIPES, WAYS, Way

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject, Project

FORKS = Path(__file__).with_name("forks.py")

SETUP = "import os\nimport sys\n\nimport pytest\n\n\n"


def made(way: Way, new_project: NewProject) -> Project:
    """Return a project for one run."""
    project = new_project()
    recipes = project.root / "tiny_recipes.py"
    recipes.write_text(recipes.read_text() + RECIPES)
    for cell in way.cells:
        if not (project.root / f"conf/recipe/{cell}.yaml").exists():
            target = f"{{_target_: tiny_recipes.{cell}, _partial_: true}}"
            project.option("recipe", cell, f"implementation: {target}\n")
        project.spec(cell, cell, way.spec)
    if way.conftest:
        project.write("conftest.py", SETUP + way.conftest)
    if way.plugin:
        project.write("early.py", SETUP + way.plugin)
    return project


def _named(way: Way) -> dict[str, str]:
    return {"PYTEST_PLUGINS": "early"} if way.plugin else {}


Ended = tuple[int, str, tuple[str, ...]]


@pytest.fixture(scope="module")
def ended(new_project: NewProject) -> dict[str, Ended]:
    """How each of these runs ended: its code, what it said, and the outcomes it recorded."""
    projects = {name: made(way, new_project) for name, way in WAYS.items()}
    options = ("--environment=plain", "--isolation=foreground")
    runs = [
        [str(projects[name].root), [*options, *way.arguments], {**way.variables, **_named(way)}]
        for name, way in WAYS.items()
    ]
    variables = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": "100"}
    foreign = ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "CI", "TUNEMATRIX_INTEGRATION")
    clean = {name: value for name, value in os.environ.items() if name not in foreign}
    done = subprocess.run(
        [sys.executable, str(FORKS)],
        input=json.dumps(runs),
        env=clean | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    found = {}
    for (name, project), (code, text) in zip(
        projects.items(), json.loads(done.stdout), strict=True
    ):
        file = project.root / ".tunematrix/plain/results.jsonl"
        records: list[Any] = [] if not file.exists() else project.records
        outcomes = tuple(record["outcome"] for record in records)
        found[name] = (code, text, outcomes)
    return found


@pytest.mark.parametrize("name", WAYS)
def test_no_way_round(ended: dict[str, Ended], name: str) -> None:
    """Green where it was tested, and never elsewhere; what was collected is on record."""
    way, (code, text, outcomes) = WAYS[name], ended[name]
    assert (code, outcomes) == (way.code, way.outcomes), text
    assert way.says in text
    assert "INTERNALERROR" not in text or "SystemExit" in text


def test_folders_that_pytest_passes_over(project: Project) -> None:
    """And links: all that `plan` lists is run."""
    text = "test_id: {name}\nrecipe: succeed\nmatrix: {{quantizer: [plain]}}\n"
    project.write("specs/build/one.yaml", text.format(name="one"))
    project.write("specs/.hidden/two.yaml", text.format(name="two"))
    project.write("elsewhere/three.yaml", text.format(name="three"))
    (project.root / "specs/three.yaml").symlink_to("../elsewhere/three.yaml")
    (project.root / "specs").rename(project.root / "real")
    (project.root / "specs").symlink_to("real")
    planned = project.tunematrix("plan", "-e", "plain").text
    run = project.pytest("--isolation=foreground")
    assert run.code == 0
    names = [f"{name}[plain-plain]" for name in ("one", "two", "three")]
    assert all(name in planned for name in names)
    assert project.outcomes == dict.fromkeys(names, "passed")


def test_a_worker_of_xdist_that_is_killed(project: Project) -> None:
    """Its cell has a record: an error."""
    kill = "os.kill(psutil.Process(worker).pid, signal.SIGKILL)"
    project.write(
        "killing.py",
        "import os\nimport signal\nimport time\n\nimport psutil\n\n\n"
        "def kill(config, events, output_dir):\n"
        "    above = psutil.Process().parents()\n"
        "    worker = next(p.pid for p in above if 'exec(eval' in ' '.join(p.cmdline()))\n"
        f"    {kill}\n    time.sleep(30)\n",
    )
    target = "{_target_: killing.kill, _partial_: true}"
    project.option("recipe", "kill", f"implementation: {target}\n")
    project.spec("kill", "kill")
    project.write("test_own.py", "def test_own():\n    pass\n")
    run = project.pytest("-p", "xdist", "-n2", "specs", "test_own.py")
    assert run.code == 1
    (record,) = project.records
    assert record["outcome"] == "error"
    assert "crashed while running 'specs/kill.yaml::kill[plain-plain]'" in record["reason"]
    assert "cells: ! 1 error" in run.text


def test_tests_of_ones_own_side_by_side(project: Project) -> None:
    """Where a command line reaches no spec, xdist's workers owe no record."""
    project.write("test_own.py", "def test_own():\n    pass\n")
    run = project.pytest("-p", "xdist", "-n2", "test_own.py")
    assert run.code == 0, run.text
    assert "1 passed" in run.text


def test_a_pytest_of_ones_own(project: Project) -> None:
    """Python would run it in the place of pytest, and it may do anything."""
    project.spec("bad", "refuse")
    project.write("pytest.py", "import sys\n\nsys.exit(0)\n")
    run = project.tunematrix("run", "-e", "plain")
    assert (run.code, run.text.count("pytest.py: Python would run this in the place")) == (4, 1)


def test_records_that_were_there_before(project: Project) -> None:
    """Are of other runs, however good."""
    project.spec("own", "succeed")
    assert project.pytest().code == 0
    project.spec("own", "refuse")
    assert project.pytest("-k", "nothing").code == 5
    assert project.pytest().code == 1
    assert [record["outcome"] for record in project.records] == ["passed", "failed"]


@pytest.mark.parametrize("flag", ["-O", "-OO"])
def test_without_assertions(project: Project, flag: str) -> None:
    """Nor, with -OO, docstrings: none of the checks is one."""
    project.spec("bad", "refuse")
    project.spec("good", "succeed")
    command = [sys.executable, flag, "-m", "pytest", "--environment=plain"]
    run = project.run([*command, "--isolation=foreground"])
    assert (run.code, "INTERNALERROR" in run.text) == (1, False), run.text
    assert project.outcomes == {"bad[plain-plain]": "failed", "good[plain-plain]": "passed"}
