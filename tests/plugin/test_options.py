"""--fault, --isolation, --keep-output, and the command that repeats a cell as it ran."""

from __future__ import annotations

import json
import os
import re
import shlex
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject, Project


def noticed(project: Project, cell: str) -> dict[str, Any]:
    """What the recipe `succeed` wrote down in the newest run of a cell."""
    run_dir = [record["run_dir"] for record in project.records if record["cell_id"] == cell][-1]
    events = map(json.loads, (project.root / run_dir / "events.jsonl").read_text().splitlines())
    (notice,) = [event["values"] for event in events if event["kind"] == "Determinants"]
    found: dict[str, Any] = notice
    return found


def test_a_fault_is_entered_in_the_worker(project: Project) -> None:
    """Around the recipe, with the cell's configuration; output is kept where it is asked for."""
    project.spec("good", "succeed")
    project.spec("bad", "refuse")
    fault = "--fault=tiny_recipes:plant"
    run = project.pytest(fault, "--keep-output", NOX_CURRENT_SESSION="plain")
    assert project.outcomes == {"good[plain-plain]": "passed", "bad[plain-plain]": "failed"}
    assert noticed(project, "good[plain-plain]")["planted"] == "plain"
    assert len(list(project.root.glob(".tunematrix/**/output/result.txt"))) == 1
    assert {tuple(record["faults"]) for record in project.records} == {("tiny_recipes:plant",)}
    # Under Nox the environment is Nox's to build and to enter.
    assert f"run again: nox -s plain -- 'specs/bad.yaml::bad[plain-plain]' {fault}\n" in run.text


@pytest.fixture(scope="module")
def repeated(new_project: NewProject) -> tuple[Project, str]:
    """A probe that fails under a fault, in an isolation of its own, run from a subfolder."""
    project = new_project()
    # The recipes lie beside pyproject.toml, and Python looks where it is started.
    project.variables["PYTHONPATH"] = (
        f"{project.root}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    )
    project.option("quantizer", "odd name", "capabilities: {recipe: {}}\n")
    project.spec("good", "succeed", quantizers="[plain, tiny-int4, odd name]")
    options = ["--fault=tiny_recipes:plant", "--isolation=spawn", "-m", "probe"]
    (project.root / "sub").mkdir()
    run = project.pytest(*options, "../specs", cwd="sub")
    assert run.code == 1
    (again,) = [line for line in run.text.splitlines() if line.startswith("run again: ")]
    return project, again.removeprefix("run again: ")


def test_spawned_cells_have_a_python_of_their_own(repeated: tuple[Project, str]) -> None:
    """And the record says so."""
    (record,) = repeated[0].records
    assert record["machine"]["isolation"] == "spawn"


def test_the_command_repeats_exactly_that_cell(repeated: tuple[Project, str]) -> None:
    """As printed, in the same folder: same cell, fault and isolation, and nothing else."""
    project, again = repeated
    before = project.records
    # By the virtualenv's own Python, unless its commands are on PATH.
    assert "tunematrix run -e plain '../specs/good.yaml::good[plain-odd name]'" in again
    run = project.run(shlex.split(again), cwd="sub")
    (record,) = project.records[len(before) :]
    assert run.code == 1
    assert record["cell_id"] == before[0]["cell_id"] == "good[plain-odd name]"
    assert record["run_id"] != before[0]["run_id"]
    assert (record["reason"], record["machine"]["isolation"]) == (before[0]["reason"], "spawn")
    assert noticed(project, record["cell_id"])["planted"] == "odd name"


def test_the_foreground_is_this_process(project: Project) -> None:
    """No process is started, preparations are made here too, and secrets stay masked."""
    settings = "engine: python\ndevice: cpu\nmax_grad_norm: 1.0\npreload: []\n"
    prepare = "prepare: {call: 'tiny_recipes:get_ready', note: counting}\n"
    project.option("backend", "here", settings + prepare)
    project.write("pyproject.toml", (project.root / "pyproject.toml").read_text().replace(
        'backends = ["plain"]', 'backends = ["here"]'))  # fmt: skip
    project.spec("good", "succeed")
    project.spec("secret", "tell_secrets")
    run = project.pytest("--isolation=foreground", TINY_API_TOKEN="hunter2-hunter2")
    assert run.code == 1
    pid = (project.root / ".tunematrix/cache/ready").read_text()
    assert pid == f"{noticed(project, 'good[here-plain]')['pid']}\n"
    assert "hunter2" not in run.text
    assert "Captured stdout call" in run.text


def test_a_preparation_is_made_once(project: Project) -> None:
    """For all cells that need it; one that fails is tried once, and its cells can't be judged."""
    for name, call in (("prepared", "get_ready"), ("unprepared", "fail_to_get_ready")):
        project.option(
            "quantizer", name, f"prepare: {{call: 'tiny_recipes:{call}', note: counting}}\n"
        )
    project.spec("good", "succeed", quantizers="[prepared]")
    project.spec("other", "chatter", quantizers="[prepared]")
    project.spec("bad", "succeed", quantizers="[unprepared]")
    project.spec("worse", "chatter", quantizers="[unprepared]")
    run = project.pytest()
    assert run.code == 1
    assert project.outcomes == {
        "good[plain-prepared]": "passed",
        "other[plain-prepared]": "passed",
        "bad[plain-unprepared]": "error",
        "worse[plain-unprepared]": "error",
    }
    assert len((project.root / ".tunematrix/cache/ready").read_text().splitlines()) == 2
    assert run.text.count("  quantizer unprepared: counting\n") == 1
    reason = project.record["worse[plain-unprepared]"]["reason"]
    assert reason.endswith(": RuntimeError: no compiler")
    (log,) = re.findall(r"^preparing unprepared failed \(all of it in (.+\.log)\)", reason)
    assert "RuntimeError: no compiler" in (project.root / log).read_text()
