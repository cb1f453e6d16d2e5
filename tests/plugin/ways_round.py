"""Ways in which a run might be green though nothing was tested, and how each has to end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
