"""The verbs of the command line, as a user runs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from tunematrix.cli import app

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject, Project


@pytest.fixture(scope="module")
def project(new_project: NewProject) -> Project:
    """Two specs; one of them has an exclusion."""
    project = new_project()
    project.option("quantizer", "refused", "capabilities: {recipe: {}}\n")
    project.spec("good", "succeed", quantizers="[plain, tiny-int4, refused]")
    project.spec("bad", "refuse")
    return project


@pytest.fixture
def verb(project: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs a verb that needs no process of its own, and returns what it prints."""
    monkeypatch.chdir(project.root)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, [*arguments, "--environment=plain"])
        assert result.exit_code == 0, result.output
        return result.output

    return run


def test_plan(verb: Callable[..., str]) -> None:
    """Every cell in order, exclusions with their reasons, and how many of each."""
    assert verb("plan", "--axis=recipe=succeed").splitlines() == [
        "good[plain-plain]",
        "good[plain-tiny-int4]",
        "good[plain-refused]  unsupported: recipe succeed is not declared in "
        "quantizer/refused.yaml",
        "",
        "2 cells, 1 exclusions in plain",
    ]


def test_plan_as_data(verb: Callable[..., str]) -> None:
    """The same as JSON, of one spec."""
    found = json.loads(verb("plan", "specs/bad.yaml", "--json"))
    assert [cell["id"] for cell in found["cells"]] == ["bad[plain-plain]"]
    assert found["cells"][0]["file"] == "specs/bad.yaml"
    assert found["exclusions"] == []


def test_run_the_suite(project: Project) -> None:
    """What pytest understands goes to pytest; without a path the project's specs run."""
    run = project.tunematrix(
        "run", "-e", "plain", "-k", "tiny-int4", "--axis", "recipe=succeed", "-x"
    )
    assert run.code == 0, run.text
    assert "specs/good.yaml::good[plain-tiny-int4] PASSED" in run.text
    assert "1 passed, 1 deselected" in run.text


def test_run_a_cell_without_a_spec(project: Project) -> None:
    """Overrides make a cell; its records stand beside those of the suite."""
    run = project.tunematrix(
        "run", "-e", "plain", "recipe=succeed", "quantizer=plain", "train.seed=7"
    )
    assert run.code == 0, run.text
    newest = project.records[-1]
    assert newest["cell_id"].startswith("adhoc-")
    config = json.loads((project.root / newest["run_dir"] / "cell.json").read_text())["config"]
    assert config["train"]["seed"] == 7


def test_debug_runs_in_the_foreground(project: Project) -> None:
    """With the terminal free for a debugger; a wrong name is answered with close ones."""
    run = project.tunematrix("run", "-e", "plain", "--debug", "bad[plain-plain]")
    assert run.code == 1
    assert 'raise ValueError("integers take no gradient")' in run.text
    assert project.records[-1]["machine"]["isolation"] == "foreground"
    wrong = project.tunematrix("run", "-e", "plain", "--debug", "bda[plain-plain]")
    assert wrong.code == 4
    assert "no cell is called bda[plain-plain]; did you mean bad[plain-plain]" in wrong.text


def test_report(project: Project, verb: Callable[..., str]) -> None:
    """The newest run's matrix again, and its records as data."""
    project.pytest("specs/good.yaml")
    assert "✓ 2 passed   · 1 unsupported" in verb("report")
    records = json.loads(verb("report", "--json"))
    assert [record["outcome"] for record in records] == ["passed", "passed", "unsupported"]


def test_a_verb_that_does_not_exist(project: Project) -> None:
    """Bad input has one exit code, whoever refuses it."""
    run = project.tunematrix("paln")
    assert run.code == 4
    assert "No such command 'paln'" in run.text


@pytest.mark.parametrize("verb", [[], ["plan"], ["run"], ["report"], ["schema"]])
def test_help(verb: list[str]) -> None:
    """Every verb explains itself."""
    result = CliRunner().invoke(app, [*verb, "--help"])
    assert result.exit_code == 0
    assert "Usage: " in result.output


def test_schema() -> None:
    """A JSON schema, for editors."""
    result = CliRunner().invoke(app, ["schema"])
    assert json.loads(result.output)["title"] == "tunematrix spec"
