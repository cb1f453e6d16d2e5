"""Configs and command lines as pytest's items, and the verb `check`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.unit.inspection.projects import PROJECT

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject, Project

SETTINGS = """
tunematrix_check = ["src/tinytrain/conf"]
tunematrix_runners = true
"""
LINE = "src/tinytrain/conf/model/line.yaml"


@pytest.fixture
def inspected(new_project: NewProject) -> Project:
    """A project with a spec, with configs, and with command lines of which one is called."""
    project = new_project()
    own = (project.root / "pyproject.toml").read_text()
    for part in PROJECT.split("\n== ")[1:]:
        name, _, content = part.partition("\n")
        project.write(name.strip(), content)
    own = own.replace("[tool.tunematrix", f"{SETTINGS}[tool.tunematrix", 1)
    exclude = '[tool.tunematrix.runners]\nexclude = ["evaluate", "convert", "greet"]\n'
    project.write("pyproject.toml", (project.root / "pyproject.toml").read_text() + own + exclude)
    project.spec("good", "succeed")
    return project


def test_they_run_beside_the_cells(inspected: Project) -> None:
    """Where no path is named, as in a session of Nox; each with its markers."""
    run = inspected.pytest("-v")
    assert run.code == 0, run.text
    assert "specs/good.yaml::good[plain-plain] PASSED" in run.text
    assert f"{LINE}::config PASSED" in run.text
    assert "pyproject.toml::train PASSED" in run.text
    assert inspected.outcomes == {"good[plain-plain]": "passed"}


@pytest.mark.each_time(2)
@pytest.mark.parametrize(
    ("expression", "configs", "runners", "cells"),
    [
        ("config", True, False, False),
        ("runner", False, True, False),
        ("integration and slow", False, True, False),
        ("not slow", True, False, True),
        ("not integration", True, False, False),
    ],
)
def test_markers_select_them(
    inspected: Project, expression: str, configs: bool, runners: bool, cells: bool
) -> None:
    """By any expression."""
    collected = inspected.pytest("--collect-only", "-q", "-m", expression).collected
    assert any("::config" in name for name in collected) == configs, collected
    assert any("pyproject.toml::" in name for name in collected) == runners
    assert any("specs/" in name for name in collected) == cells, collected


def test_a_fault_fails_its_item_alone(inspected: Project) -> None:
    """With the file and the line, and the command that checks it again."""
    inspected.write("src/tinytrain/conf/model/odd.yaml", "_target_: tinytrain.parts.Lin\n")
    inspected.write("src/tinytrain/conf/model/worse.yaml", "width: ${no}\n")
    run = inspected.pytest("-m", "config")
    assert run.code == 1
    assert [line.split(" - ")[0] for line in run.short_summary] == [
        "FAILED src/tinytrain/conf/model/odd.yaml::config",
        "FAILED src/tinytrain/conf/model/worse.yaml::config",
    ]
    assert "model/odd.yaml:1: model._target_: tinytrain.parts.Lin" in run.text
    assert "again: tunematrix check src/tinytrain/conf/model/worse.yaml" in run.text


def test_one_config_and_one_runner_by_their_ids(inspected: Project) -> None:
    """As with any other test."""
    run = inspected.pytest(f"{LINE}::config", "pyproject.toml::train", "-v")
    assert run.code == 0, run.text
    assert "2 passed" in run.text


@pytest.mark.each_time(1)
@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_a_script_that_fails_is_reported(inspected: Project, workers: str) -> None:
    """With the exception, its place, the call, and where the logs are; by xdist's workers, too."""
    inspected.write("src/tinytrain/parts.py", "class Line:\n    pass\n")
    run = inspected.pytest("-p", "xdist.plugin", workers, "pyproject.toml", "-m", "runner")
    assert run.code == 1, run.text
    assert "tinytrain.parts has no Points" in run.text
    assert ".tunematrix/plain/runners/train" in run.text


def test_a_folder_without_configs_ends_the_run(inspected: Project) -> None:
    """As one without specs does; one that isn't there is bad input."""
    (inspected.root / "empty").mkdir()
    run = inspected.pytest("-o", "tunematrix_check=empty")
    assert run.code == 5
    assert "empty: holds no config, so nothing would be checked" in run.text
    run = inspected.pytest("-o", "tunematrix_check=absent")
    assert run.code == 4
    assert "there is no such file or folder" in run.text


def test_the_verb(inspected: Project) -> None:
    """One line a config, every fault with its place, exit codes as documented, and JSON."""
    good = inspected.tunematrix("check")
    assert good.code == 0, good.text
    assert f"ok   {LINE}  (config)" in good.text
    assert "4 configs: 4 passed" in good.text
    inspected.write(LINE, "_target_: tinytrain.parts.Line\nwidth: ${no}\nwdth: 3\n")
    bad = inspected.tunematrix("check", "src")
    assert bad.code == 1
    assert f"FAIL {LINE}" in bad.text
    assert f"{LINE}:2: model.width: ${{no}}: there is no key no" in bad.text
    assert f"{LINE}:3: model.wdth: tinytrain.parts.Line takes no argument wdth" in bad.text
    data = inspected.tunematrix("check", "src", "--json")
    (line,) = [one for one in json.loads(data.text) if one["file"] == LINE]
    assert [(fault["line"], fault["key"]) for fault in line["faults"]] == [
        (2, "model.width"),
        (3, "model.wdth"),
    ]
    assert inspected.tunematrix("check", "specs/none").code == 4
    (inspected.root / "empty").mkdir()
    assert inspected.tunematrix("check", "empty").code == 5
