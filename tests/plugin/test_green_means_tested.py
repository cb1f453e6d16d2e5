"""Whatever pytest's options, its plug-ins or a conftest.py do, an untested run is never green."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject, Project

FORKS = Path(__file__).with_name("forks.py")

SETUP = "import os\nimport sys\n\nimport pytest\n\n\n"
HOOK = "@pytest.hookimpl(tryfirst=True)\n"
WRAPPER = "@pytest.hookimpl(wrapper=True, tryfirst=True)\n"
REPORT = WRAPPER + "def pytest_runtest_makereport():\n    report = yield\n"


@dataclass(frozen=True)
class Way:
    """One run that should end as it says.

    Attributes:
        code: the exit code; says: part of what is shown; arguments, variables: of the run.
        conftest: the project's own; cells: its specs, named for their recipes.
        plugin: what PYTEST_PLUGINS names. spec: a line of the first spec.
        outcomes: what is recorded.
    """

    code: int
    says: str = ""
    arguments: tuple[str, ...] = ()
    conftest: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    cells: tuple[str, ...] = ("succeed",)
    plugin: str = ""
    spec: str = ""
    outcomes: tuple[str, ...] = ()


KEPT = "nothing was tested: succeed[plain-plain]: collected, but an option, a mark"
NO_RECORD = "there is no record of succeed[plain-plain]: collected, but an option"
BOTH = ("allocate", "succeed")
MISSED = ("passed", "error")
MARK = "def pytest_collection_modifyitems(items):\n    items[-1].add_marker(pytest.mark."

WAYS = {
    # The honest ones.
    "passes": Way(0, outcomes=("passed",)),
    "fails": Way(1, cells=("refuse",), outcomes=("failed",)),
    "a listing that is asked for": Way(0, "1 test collected", ("--collect-only",)),
    "one of two is deselected": Way(
        0, arguments=("--deselect=specs/succeed.yaml",), cells=BOTH, outcomes=("passed",)
    ),
    "one of two is ignored": Way(
        0, arguments=("--ignore=specs/succeed.yaml",), cells=BOTH, outcomes=("passed",)
    ),
    "an unconditional -k": Way(0, arguments=("-k", "alloc"), cells=BOTH, outcomes=("passed",)),
    # Options.
    "--setup-plan": Way(5, KEPT, ("--setup-plan",)),
    "--setup-only": Way(5, KEPT, ("--setup-only",)),
    "all is deselected": Way(5, "no cell was selected", ("--deselect=specs/succeed.yaml",)),
    "all is ignored": Way(5, "nothing was tested", ("--ignore-glob=*",)),
    "-k finds nothing": Way(5, "no cell was selected", ("-k", "nothing")),
    "no recorder": Way(4, "without it nothing would be r", ("-p", "no:tunematrix-recorder")),
    "no ledger": Way(4, "without it nothing would be r", ("-p", "no:tunematrix-ledger")),
    "no skipping, no xfail": Way(
        1, arguments=("-p", "no:skipping"), cells=("refuse",), outcomes=("failed",)
    ),
    "integration switched off": Way(
        5, "no cell was selected", variables={"TUNEMATRIX_INTEGRATION": "0"}
    ),
    "a listing by variable": Way(5, "nothing ", variables={"PYTEST_ADDOPTS": "--collect-only"}),
    "a help by variable": Way(5, "nothing was tested", variables={"PYTEST_ADDOPTS": "--help"}),
    "markers by variable": Way(5, "nothing was tested", variables={"PYTEST_ADDOPTS": "--markers"}),
    "fixtures by variable": Way(5, KEPT, variables={"PYTEST_ADDOPTS": "--fixtures"}),
    "a part that has no cell": Way(4, "only 1 file is there", ("--shard=2/2",)),
    "what is required is nothing": Way(
        4, "plian: is no environment or backend; did you mean plain?", ("--require=plian",)
    ),
    # Marks.
    "the spec's marker skip": Way(
        4, "succeed.yaml:4: markers[0]: skip would", spec="markers: [skip]"
    ),
    "the spec's marker skipif": Way(4, "skipif would", spec="markers: [skipif]"),
    "the spec's marker xfail": Way(4, "xfail would", spec="markers: [xfail]"),
    "the spec's marker probe": Way(4, "probe is set by", spec="markers: [probe]"),
    "a mark skip": Way(
        1, "not all is well", conftest=f"{MARK}skip)\n", cells=BOTH, outcomes=MISSED
    ),
    "a mark skipif": Way(
        1, "is well", conftest=f"{MARK}skipif(True, reason='r'))\n", cells=BOTH, outcomes=MISSED
    ),
    "a mark xfail": Way(
        1, "not all is well", conftest=f"{MARK}xfail)\n", cells=("refuse",), outcomes=("failed",)
    ),
    "a mark xfail that runs nothing": Way(
        1, "well", conftest=f"{MARK}xfail(run=False))\n", cells=BOTH, outcomes=MISSED
    ),
    # What a conftest.py, or any plug-in, can do.
    "skips in a hook": Way(
        1, conftest="def pytest_runtest_setup():\n    pytest.skip('r')\n", outcomes=("error",)
    ),
    "takes the protocol": Way(
        5, KEPT, conftest="def pytest_runtest_protocol():\n    return True\n"
    ),
    "takes it from one of two": Way(
        1,
        NO_RECORD,
        conftest="def pytest_runtest_protocol(item):\n    return 'succ' in item.name or None\n",
        cells=BOTH,
        outcomes=("passed",),
    ),
    "takes the loop": Way(5, KEPT, conftest=f"{HOOK}def pytest_runtestloop():\n    return True\n"),
    "takes the command line": Way(
        5, "nothing was tested", conftest="def pytest_cmdline_main():\n    return 0\n"
    ),
    "loses an item": Way(
        1,
        NO_RECORD,
        conftest="def pytest_collection_modifyitems(items):\n    del items[-1]\n",
        cells=BOTH,
        outcomes=("passed",),
    ),
    "loses all items": Way(
        5,
        "nothing was t",
        conftest="def pytest_collection_modifyitems(items):\n    items.clear()\n",
    ),
    "ignores a spec": Way(
        4,
        "succeed.yaml: planned, and pytest didn't collect it",
        conftest=f"{HOOK}def pytest_ignore_collect(collection_path):\n"
        "    return 'succ' in collection_path.name\n",
        cells=BOTH,
    ),
    "collect_ignore": Way(
        0,
        conftest="collect_ignore = ['specs/succeed.yaml']\n",
        cells=BOTH,
        outcomes=("passed", "passed"),
    ),
    "calls a failure passed": Way(
        1,
        "not all is well: refuse[plain-plain]",
        conftest=f"{REPORT}    report.outcome = 'passed'\n    return report\n",
        cells=("refuse",),
        outcomes=("failed",),
    ),
    "takes the record from its report": Way(
        1,
        "without a verdict",
        conftest=f"{REPORT}    vars(report).pop('tunematrix', None)\n    return report\n",
        outcomes=("error",),
    ),
    "sets the code as the session ends": Way(
        1,
        conftest="def pytest_sessionfinish(session):\n    session.exitstatus = 0\n",
        cells=("refuse",),
        outcomes=("failed",),
    ),
    "exits with 0 in a hook": Way(
        5, KEPT, conftest="def pytest_runtest_setup():\n    pytest.exit('r', returncode=0)\n"
    ),
    "exits with 0 at the end": Way(
        1,
        conftest="def pytest_sessionfinish():\n    pytest.exit('r', returncode=0)\n",
        cells=("refuse",),
        outcomes=("failed",),
    ),
    "leaves in a hook": Way(
        1, "os._exit(0) ended the run", conftest="def pytest_runtest_setup():\n    os._exit(0)\n"
    ),
    "becomes another program": Way(
        1,
        "os.execv ended the run",
        conftest="def pytest_runtest_setup():\n    os.execvp('true', ['true'])\n",
    ),
    "ends Python at the end": Way(
        4,
        "a plug-in ended Python (SystemExit: 0) before",
        conftest="def pytest_unconfigure():\n    sys.exit(0)\n",
        outcomes=("passed",),
    ),
    "leaves as it is imported": Way(1, "os._exit(0) ended the run", conftest="os._exit(0)\n"),
    "ends Python as it is imported": Way(
        4, "ends Python (SystemExit: 0)", conftest="sys.exit(0)\n"
    ),
    "ends Python in a hook": Way(
        1, conftest="def pytest_runtest_setup():\n    sys.exit(0)\n", outcomes=("error",)
    ),
    "pretends to be a worker of xdist": Way(
        1,
        "not all is well",
        conftest=f"{HOOK}def pytest_configure(config):\n    config.workerinput = {{}}\n\n\n"
        f"{MARK}skip)\n",
        cells=BOTH,
        outcomes=MISSED,
    ),
    # What a plug-in can do before anybody's conftest.py.
    "leaves as PYTEST_PLUGINS has it imported": Way(
        1, "os._exit(0) ended the run", plugin="os._exit(0)\n"
    ),
    "ends Python as PYTEST_PLUGINS has it imported": Way(
        4, "a plug-in ended Python (SystemExit: 0)", plugin="sys.exit(0)\n"
    ),
    "takes the run, named in PYTEST_PLUGINS": Way(
        5, "nothing was tested", plugin="def pytest_cmdline_main():\n    return 0\n"
    ),
    # What a recipe can do where it shares the process.
    "a recipe leaves": Way(1, "os._exit(0) ended the run", cells=("leave_early",)),
    "a recipe skips": Way(1, cells=("skip_itself",), outcomes=("failed",)),
    "a recipe is an expected failure": Way(1, cells=("expect_to_fail",), outcomes=("failed",)),
    "a recipe ends pytest": Way(1, cells=("end_pytest",), outcomes=("failed",)),
    "a recipe ends Python": Way(1, cells=("end_python",), outcomes=("failed",)),
}
RECIPES = """

def skip_itself(config, events, output_dir):
    importlib.import_module("pytest").skip("r")


def expect_to_fail(config, events, output_dir):
    importlib.import_module("pytest").xfail("r")


def end_pytest(config, events, output_dir):
    importlib.import_module("pytest").exit("r", returncode=0)


def end_python(config, events, output_dir):
    sys.exit(0)
"""


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
