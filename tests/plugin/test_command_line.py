"""The verbs of the command line, as a user runs them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tunematrix.report.saying import screen

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject, Project, Run, Verb

HERE = "--environment=plain"


@pytest.fixture(scope="module")
def ran(new_project: NewProject) -> tuple[Project, Run]:
    """Two specs, one of them with an exclusion, and a run of some cells."""
    project = new_project()
    project.option("quantizer", "refused", "capabilities: {recipe: {}}\n")
    project.spec("good", "succeed", quantizers="[plain, tiny-int4, refused]")
    project.spec("bad", "refuse")
    selection = ["-k", "tiny-int4", "--axis", "recipe=succeed"]
    return project, project.tunematrix("run", HERE, *selection, "-x")


def test_plan(ran: tuple[Project, Run], verb: Verb) -> None:
    """Every cell in order, exclusions with their reasons, and how many of each."""
    code, text = verb(ran[0], "plan", HERE, "--axis=recipe=succeed")
    assert (code, text.splitlines()) == (
        0,
        [
            "good[plain-plain]",
            "good[plain-tiny-int4]",
            "good[plain-refused]  unsupported: recipe succeed is not declared in "
            "quantizer/refused.yaml",
            "",
            "2 cells, 1 exclusion in plain",
        ],
    )


def test_plan_takes_no_settings(ran: tuple[Project, Run], verb: Verb) -> None:
    """They aren't taken for a file that is missing, and the verb that takes them is named."""
    code, text = verb(ran[0], "plan", HERE, "recipe=succeed")
    assert (code, "recipe=succeed: there is no such spec" in text) == (4, True)
    assert "tunematrix run takes any KEY=VALUE" in text


def test_a_word_in_place_of_a_file(ran: tuple[Project, Run]) -> None:
    """What isn't there is named, and how cells are chosen by their names."""
    run = ran[0].tunematrix("run", HERE, "succeed")
    assert run.code == 4
    assert "succeed: there is no such file or folder; -k chooses" in run.text


def test_plan_as_data(ran: tuple[Project, Run], verb: Verb) -> None:
    """The same as JSON, of one spec."""
    found = json.loads(verb(ran[0], "plan", "specs/bad.yaml", HERE, "--json")[1])
    assert [cell["id"] for cell in found["cells"]] == ["bad[plain-plain]"]
    assert found["cells"][0]["file"] == "specs/bad.yaml"
    assert found["exclusions"] == []


def test_run_the_suite(ran: tuple[Project, Run]) -> None:
    """What pytest understands goes to pytest; without a path the project's specs run."""
    _, run = ran
    assert run.code == 0, run.text
    assert "specs/good.yaml::good[plain-tiny-int4] PASSED" in run.text
    assert "1 passed, 1 deselected" in run.text


def test_report(ran: tuple[Project, Run], verb: Verb) -> None:
    """The newest run's matrix again, and its records as data."""
    code, text = verb(ran[0], "report", HERE)
    assert (code, "cells: ✓ 1 passed   · 1 unsupported\n" in text) == (0, True)
    records = json.loads(verb(ran[0], "report", HERE, "--json")[1])
    assert [record["outcome"] for record in records] == ["passed", "unsupported"]


def test_report_before_any_run(project: Project, verb: Verb) -> None:
    """There is nothing to show, and the way to something is named."""
    code, text = verb(project, "report", HERE)
    assert (code, "has no record yet; run nox -s plain" in text) == (5, True)


def test_run_a_cell_without_a_spec(project: Project) -> None:
    """Overrides make a cell of their own."""
    overrides = ["recipe=succeed", "quantizer=plain", "train.seed=7"]
    run = project.tunematrix("run", HERE, *overrides)
    assert run.code == 0, run.text
    (record,) = project.records
    assert record["cell_id"].startswith("adhoc-")
    config = json.loads((project.root / record["run_dir"] / "cell.json").read_text())["config"]
    assert config["train"]["seed"] == 7


def test_debug_runs_in_the_foreground(project: Project, verb: Verb) -> None:
    """With the terminal free for a debugger; a wrong name is answered with close ones."""
    project.spec("bad", "refuse", quantizers="[plain, tiny-int4]")
    run = project.tunematrix("run", HERE, "--debug", "bad[plain-plain]")
    assert run.code == 1
    assert 'raise ValueError("integers take no gradient")' in run.text
    (record,) = project.records
    assert (record["cell_id"], record["machine"]["isolation"]) == ("bad[plain-plain]", "foreground")
    code, text = verb(project, "run", HERE, "--debug", "bda[plain-plain]")
    assert code == 4
    said = "no cell is called {}; tunematrix plan lists all; did you mean one of these?\n"
    assert said.format("bda[plain-plain]") + "  bad[plain-plain]\n" in text
    code, text = verb(project, "run", HERE, "--debug", "bad")
    assert said.format("bad") + "  bad[plain-plain]\n  bad[plain-tiny-int4]\n" in text


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("recipe=sucede", "recipe=sucede: sucede is not an option of recipe; did you mean succeed"),
        ("quantizer=plian", "quantizer=plian: plian is not an option of quantizer; did you mean"),
        ("train.max_stepz=3", "train.max_stepz=3: "),
    ],
)
def test_a_pair_that_is_wrong(project: Project, verb: Verb, pair: str, message: str) -> None:
    """It is named as it was given, and no file is."""
    recipe = [] if pair.startswith("recipe=") else ["recipe=succeed"]
    code, text = verb(project, "run", HERE, *recipe, pair)
    assert (code, message in text, "adhoc" in text) == (4, True, False)


def test_a_marker_that_is_wrong(project: Project) -> None:
    """What was meant is said, as of any other name."""
    project.spec("good", "succeed")
    run = project.tunematrix("run", HERE, "-m", "prob or not relation")
    assert run.code == 4
    assert "-m prob: prob is not a marker; did you mean probe?" in run.text


HELP = (
    "name",
    ["", "plan", "run", "report", "doctor", "download", "schema", "faults", "soak", "tolerances"],
)


@pytest.mark.parametrize(*HELP)
def test_help_shows_no_type_of_a_flag(project: Project, verb: Verb, name: str) -> None:
    """An option that takes no value shows nothing, and files are called FILE."""
    text = verb(project, *name.split(), "--help")[1]
    assert not [word for word in ("<bool>", "[files]") if word in text]


def test_no_style_where_none_is_wanted(
    project: Project, verb: Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NO_COLOR rules out bold and dim as well, on a terminal too."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    project.spec("good", "succeed")
    assert "\x1b" not in verb(project, "plan", "--help")[1]
    assert not screen().is_terminal or screen().color_system is None


@pytest.mark.parametrize(*HELP)
def test_help(project: Project, verb: Verb, name: str) -> None:
    """Every verb explains itself."""
    code, text = verb(project, *name.split(), "--help")
    assert (code, f"tunematrix {name}".strip() in text, "Usage: " in text) == (0, True, True)


def test_schema(project: Project, verb: Verb) -> None:
    """A JSON schema, for editors."""
    assert json.loads(verb(project, "schema")[1])["title"] == "tunematrix spec"
