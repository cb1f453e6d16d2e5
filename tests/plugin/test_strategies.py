"""Strategies of a matrix, from the command line on: what is planned is what runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SPEC = """\
test_id: few
recipe: sft
matrix:
  strategy: pairs
  method: [lora, full, dora]
  optimizer: [adamw, sgd]
  scheduler: [constant, cosine, linear]
"""
SETTINGS = '[tool.pytest.ini_options]\ntunematrix_specs = ["specs"]\n'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one spec."""
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs/few.yaml").write_text(SPEC, encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(SETTINGS, encoding="utf-8")
    return tmp_path


def called(project: Path, *arguments: str, code: int = 0) -> str:
    """Call tunematrix in a project; return what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_what_is_planned_is_collected(project: Path) -> None:
    """pytest has the cells that plan lists, by the spec's strategy and by the command line's."""
    sizes = []
    for options in ([], ["--strategy=product"]):
        plan = json.loads(called(project, "-m", "tunematrix", "plan", "--json", *options))
        planned = {cell["id"] for cell in plan["cells"]}
        listed = called(
            project, "-m", "pytest", "--environment=cpu", "--collect-only", "-q", *options
        )
        collected = {line.partition("::")[2] for line in listed.splitlines() if "::" in line}
        assert planned == collected
        sizes.append(len(planned))
    few, whole = sizes
    assert whole == 18
    assert 9 <= few < whole


def test_plan_says_what_the_pairs_come_to(project: Path) -> None:
    """People are told how many pairs meet, and JSON has the same."""
    text = called(project, "-m", "tunematrix", "plan")
    assert "few on cpu: 21 of 21 pairs of options meet, in " in text
    (combined,) = json.loads(called(project, "-m", "tunematrix", "plan", "--json"))["combined"]
    assert (combined["total"], combined["covered"], combined["of"]) == (21, 21, 18)
    assert f"{combined['combinations']} of 18 combinations" in text


def test_missing_pairs(project: Path) -> None:
    """`plan --missing` lists what no cell brings together, and no cells."""
    text = called(project, "-m", "tunematrix", "plan", "--missing")
    assert "method × optimizer: 6 of 12 pairs meet" in text
    assert "few[" not in text
    found = json.loads(called(project, "-m", "tunematrix", "plan", "--missing", "--json"))
    (pair,) = [one for one in found if one["axes"] == ["method", "optimizer"]]
    assert ["lora", "adam"] in pair["missing"]
    assert len(pair["met"]) == 6


def test_a_wrong_strategy_on_the_command_line(project: Path) -> None:
    """It is bad input for the verb and for pytest, told in the same words."""
    for command in (["tunematrix", "plan"], ["pytest", "--environment=cpu"]):
        text = called(project, "-m", *command, "--strategy=pair", code=4)
        assert "--strategy pair is no strategy; did you mean pairs?" in text


def test_without_covertable(project: Path) -> None:
    """Where it isn't installed, the error says what to install; a product needs nothing."""
    hidden = project / "hidden"
    hidden.mkdir()
    (hidden / "covertable.py").write_text("raise ImportError('no')\n", encoding="utf-8")
    start = f"import sys; sys.path.insert(0, {str(hidden)!r}); from tunematrix.cli import main; "
    text = called(project, "-c", start + "sys.argv[1:] = ['plan']; main()", code=6)
    assert "python -m pip install tunematrix" in text
    whole = "sys.argv[1:] = ['plan', '--strategy=product']; main()"
    assert "18 cells" in called(project, "-c", start + whole)
