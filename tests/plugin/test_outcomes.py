"""One run with cells that end in every way there is: what is recorded, reported and shown of it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from typing import TYPE_CHECKING

import pytest

from tunematrix.report.text import printable

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject, Project, Run

# The name of a spec and of its recipe, the outcome, and what JUnit makes of it.
ENDINGS = {
    "succeed": ("passed", "passed"),
    "chatter": ("passed", "passed"),
    "allocate": ("passed", "passed"),
    "crash": ("failed", "failure"),
    "curse": ("failed", "failure"),
    "hang": ("failed", "failure"),
    "leave_a_child": ("failed", "failure"),
    "leave_early": ("failed", "failure"),
    "print_a_traceback": ("failed", "failure"),
    "refuse": ("failed", "failure"),
}
FIRST_REASONS = {
    "crash": "exit: a crash in native code; the threads' stacks are in stderr.log",
    # Without the codes for a terminal.
    "curse": r"exit: ValueError: ]]></failure>",
    "hang": "exit: ran past its 1 s; stderr.log has every thread's stack",
    "leave_a_child": "left_behind: still running after the cell (ended now): sleep 600",
    "leave_early": "exit: it ended before the recipe's end, so it tested nothing",
    "print_a_traceback": "stderr: stderr has Traceback",
    "refuse": "exit: ValueError while in train: integers take no gradient",
}


@pytest.fixture(scope="module")
def ran(new_project: NewProject) -> tuple[Project, Run]:
    """A run of all of them, and of cells that can't run or can't be judged."""
    project = new_project()
    for recipe in ENDINGS:
        project.spec(recipe, recipe, "timeout: 1\n" if recipe == "hang" else "")
    project.option("recipe", "lacking", "requires: [no_such_library]\nopen: ${nowhere}\n")
    project.spec("lacking", "lacking")
    project.option("recipe", "uncomposed", "implementation: ${nowhere}\n")
    project.spec("uncomposed", "uncomposed")
    (confuse,) = (project.root / "conf/recipe").glob("confuse.yaml")
    confuse.write_text(f"{confuse.read_text()}owes: [base, training]\n")
    project.option("quantizer", "plain", "theory: {}\n")
    project.spec("confuse", "confuse")
    project.option("recipe", "untargeted", "implementation: {_target_: no_such_module.run}\n")
    project.spec("untargeted", "untargeted")
    return project, project.pytest("--require=mlx")


def test_every_cell_has_one_record(ran: tuple[Project, Run]) -> None:
    """Whatever became of it; a cell that crashed or hung leaves the next ones to run."""
    project, run = ran
    expected = {f"{name}[plain-plain]": outcome for name, (outcome, _) in ENDINGS.items()}
    assert project.outcomes == {
        **expected,
        "lacking[plain-plain]": "unavailable",
        "uncomposed[plain-plain]": "error",
        "confuse[plain-plain]": "error",
        "untargeted[plain-plain]": "failed",
    }
    assert run.code == 1


def test_junit_has_every_cell(ran: tuple[Project, Run]) -> None:
    """With what its outcome counts as."""
    project, _ = ran
    expected = {f"{name}[plain-plain]": case for name, (_, case) in ENDINGS.items()}
    assert project.junit() == {
        **expected,
        "lacking[plain-plain]": "skipped pytest.skip",
        "uncomposed[plain-plain]": "failure",
        "confuse[plain-plain]": "failure",
        "untargeted[plain-plain]": "failure",
    }


def test_junit_has_the_figures(ran: tuple[Project, Run]) -> None:
    """Of each cell in its properties, and once what all have in common; nothing else is new."""
    project, run = ran
    (suite,) = ElementTree.parse(project.root / ".tunematrix/plain/junit.xml").getroot()
    common = suite.find("properties")
    assert common is not None
    names = {one.attrib["name"]: one.attrib["value"] for one in common}
    assert names["environment"] == "plain" and names["version.tunematrix"]
    for case in suite.iter("testcase"):
        # As Jenkins' schema has them, but for the properties, which its reader takes as well.
        assert case.attrib.keys() == {"classname", "name", "time"}
        assert [child.tag for child in case][:1] == ["properties"]
        assert {child.tag for child in case[1:]} <= {"failure", "skipped"}
        own = {one.attrib["name"]: one.attrib["value"] for one in case[0]}
        record = project.record[case.attrib["name"]]
        assert own["outcome"] == record["outcome"]
        assert own["axis.quantizer"] == "plain"
        for name, figure in record["metrics"].items():
            assert float(own[f"metric.{name}"]) == figure
    assert "\x1b" not in run.text and "\x00" not in run.text


@pytest.mark.parametrize("name", FIRST_REASONS)
def test_the_short_summary_has_node_and_reason(ran: tuple[Project, Run], name: str) -> None:
    """One line for each cell: what to run again, and what failed first."""
    (line,) = [line for line in ran[1].short_summary if f"::{name}[" in line]
    node = f"FAILED specs/{name}.yaml::{name}[plain-plain] - "
    assert line.startswith(node)
    shown = line.removeprefix(node).removesuffix("...")
    assert len(shown) > 20 and FIRST_REASONS[name].startswith(shown[: len(FIRST_REASONS[name])])


@pytest.mark.parametrize("name", FIRST_REASONS)
def test_the_record_has_the_whole_reason(ran: tuple[Project, Run], name: str) -> None:
    """And the check that failed, with what was measured and the bound."""
    record = ran[0].record[f"{name}[plain-plain]"]
    assert " ".join(printable(record["reason"]).split()).startswith(FIRST_REASONS[name])
    failed = [check for check in record["checks"] if check["outcome"] == "failed"]
    assert [check["name"] for check in failed] == [FIRST_REASONS[name].partition(":")[0]]
    assert failed[0]["bound"]


def test_the_report_has_all_that_is_needed(ran: tuple[Project, Run]) -> None:
    """Check, measured value, bound, cause, end of stderr, evidence, the command that repeats it."""
    project, run = ran
    evidence = project.record["refuse[plain-plain]"]["run_dir"]
    report = run.text.partition("_ refuse[plain-plain] _")[2].splitlines()[1:12]
    assert report[:3] == [
        "exit: measured exit code 1, bound exit code 0, at the end",
        "  because  ValueError while in train: integers take no gradient",
        "stderr:",
    ]
    last = report.index("  ValueError: integers take no gradient")
    assert report[last + 1] == f"evidence:  {evidence}"
    assert report[last + 2].startswith("run again: ")
    assert (project.root / evidence / "stderr.log").is_file()


@pytest.mark.parametrize("name", ["crash", "hang"])
def test_a_crash_and_a_hang_say_where(ran: tuple[Project, Run], name: str) -> None:
    """The innermost frame is the first that is quoted."""
    frame = ran[0].record[f"{name}[plain-plain]"]["reason"].splitlines()[1]
    assert re.search(rf'File ".*tiny_recipes\.py", line \d+ in {name}$', frame)


def test_what_cannot_run_says_what_it_needs(ran: tuple[Project, Run]) -> None:
    """Its configuration isn't composed: what it refers to may need the library too."""
    reason = ran[0].record["lacking[plain-plain]"]["reason"]
    assert reason == "recipe lacking needs no_such_library; install it with: nox -s plain"
    assert f"? unavailable ×1: {reason}\n" in ran[1].text


def test_what_cannot_be_composed_is_an_error(ran: tuple[Project, Run]) -> None:
    """It has a record and a place; pytest shows it among the errors."""
    reason = ran[0].record["uncomposed[plain-plain]"]["reason"]
    assert reason.startswith("specs/uncomposed.yaml:1: uncomposed[plain-plain]: ")
    assert "nowhere" in reason
    (line,) = [line for line in ran[1].short_summary if "::uncomposed[" in line]
    assert line.startswith("ERROR specs/uncomposed.yaml::uncomposed[plain-plain] - specs/")


def test_a_check_that_breaks_is_an_error(ran: tuple[Project, Run]) -> None:
    """It has a record, and its whole traceback is shown, because that has to be mended."""
    project, run = ran
    assert project.record["confuse[plain-plain]"]["reason"].startswith(
        "internal error, please report it: ZeroDivision"
    )
    assert re.search(r"checks/quantization\.py:\d+: ZeroDivisionError", run.text)


def test_the_cause_behind_hydra_is_named(ran: tuple[Project, Run]) -> None:
    """A recipe that can't be imported says why, not only that it wasn't found."""
    reason = ran[0].record["untargeted[plain-plain]"]["reason"]
    assert "No module named 'no_such_module'" in reason


def test_output_is_kept_where_a_cell_failed(ran: tuple[Project, Run]) -> None:
    """Passed cells keep their evidence without it."""
    project, _ = ran
    for name, (outcome, _) in ENDINGS.items():
        folder = project.root / project.record[f"{name}[plain-plain]"]["run_dir"]
        assert (folder / "output").exists() == (outcome == "failed")
        assert (folder / "events.jsonl").read_text()
    assert [path.read_text() for path in project.root.glob("**/half.txt")] == ["half"]


def test_nothing_of_pytest_shows_through(ran: tuple[Project, Run]) -> None:
    """No internal error, no traceback but what a recipe printed, no line twice."""
    text = ran[1].text
    assert "INTERNALERROR" not in text
    assert "_pytest" not in text
    assert text.count("= tunematrix plain =") == 1


def test_the_run_ends_with_one_screen(ran: tuple[Project, Run]) -> None:
    """What failed first, with the command that repeats it; counts; and where the rest is."""
    project, run = ran
    _, _, ending = run.text.partition("= tunematrix plain =")
    lines = ending.splitlines()[1:-1]
    assert sum(-(-max(len(line), 1) // 100) for line in lines) <= 22
    first = next(name for name, record in project.record.items() if record["outcome"] == "failed")
    (reason, *_) = project.record[first]["reason"].splitlines()
    assert f"✗ {first}\n  {reason}\n" in ending
    assert f" run -e plain 'specs/{first.partition('[')[0]}.yaml::{first}'" in ending
    assert "cells: ! 2 errors   ✗ 8 failed   ? 1 unavailable   ✓ 3 passed\n" in ending
    assert lines[-1] == "more: tunematrix report -e plain"


def test_a_failure_is_told_as_it_comes_and_once(ran: tuple[Project, Run]) -> None:
    """Nothing of it is kept for the end but a line of the summary, and the screen below that."""
    project, run = ran
    before, _, after = run.text.partition("short test summary info")
    assert "= FAILURES =" not in run.text and "= ERRORS =" not in run.text
    for name, record in project.record.items():
        if record["outcome"] in ("failed", "error"):
            assert before.count(f"_ {name} _") == 1
            assert f"_ {name} _" not in after
