"""[tool.tunematrix.trainers.NAME]: what is right is read, what is wrong is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunematrix.command.trainers import read_trainers
from tunematrix.errors import BadInput

HEAD = """[project]
name = "p"

[tool.tunematrix.trainers.mine]
"""
GOOD = 'command = ["{python}", "t.py", "{output_dir}", "{dynamic_args}"]\n'


def problems(tmp_path: Path, text: str) -> list[str]:
    """Return what is said of a table."""
    (tmp_path / "pyproject.toml").write_text(HEAD + text)
    with pytest.raises(BadInput) as caught:
        read_trainers(tmp_path)
    return [line.partition("pyproject.toml")[2] for line in str(caught.value).splitlines()[1:]]


WRONG = {
    "comand = 1\n": ":5: tool.tunematrix.trainers.mine.comand: is not a known key; did you mean ",
    GOOD + "launcher = 3\n": ":6: tool.tunematrix.trainers.mine.launcher: expected text, got 3; p",
    GOOD + '\n[tool.tunematrix.trainers.mine.environment]\nA = "x"\nOUT = "{output}"\n': (
        ":9: tool.tunematrix.trainers.mine.environment.OUT: {output} is nothing that is filled in; "
    ),
    'command = ["t", "{ouput_dir}"]\n': (
        ":5: tool.tunematrix.trainers.mine.command[1]: {ouput_dir} is nothing that is filled in; d"
    ),
    'command = ["t"]\n': ":5: tool.tunematrix.trainers.mine.command: has no {output_dir}, so its ",
    'command = ["t", "{output_dir}", "--a={dynamic_args}"]\n': (
        ":5: tool.tunematrix.trainers.mine.command[2]: --a={dynamic_args} holds {dynamic_args}, wh"
    ),
    "command = []\n": ":5: tool.tunematrix.trainers.mine.command: expected 1 or more entries, got",
    GOOD + 'argument = ["--{name}"]\n': (
        ":6: tool.tunematrix.trainers.mine.argument: has no {name} or no {value}; write "
    ),
    GOOD + 'debug.lr = {value = 1, changes = "rate"}\n': (
        ":6: tool.tunematrix.trainers.mine.debug.lr.changes: rate is not one of its values; "
    ),
    GOOD + 'debug.max_steps = {value = 0, changes = "steps"}\n': (
        ":6: tool.tunematrix.trainers.mine.debug.max_steps.value: is 0; a number of steps is above"
    ),
}


@pytest.mark.parametrize("text", WRONG)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, text: str) -> None:
    """And with the nearest right name where there is one."""
    found = problems(tmp_path, text)
    assert any(line.startswith(WRONG[text]) for line in found), found


def test_every_mistake_of_every_trainer_is_said_at_once(tmp_path: Path) -> None:
    """So that one run is enough to correct them all."""
    text = "x = 1\n[tool.tunematrix.trainers.other]\ny = 2\n"
    assert {line.split(":")[1] for line in problems(tmp_path, text)} >= {"5", "7"}


def test_a_trainer_is_read(tmp_path: Path) -> None:
    """With its defaults."""
    (tmp_path / "pyproject.toml").write_text(HEAD + GOOD)
    trainer = read_trainers(tmp_path)["mine"]
    assert trainer.working_directory == "{project_dir}"
    assert trainer.launcher == "single"


def test_a_project_without_trainers_has_none(tmp_path: Path) -> None:
    """Nor does a folder without a project."""
    assert read_trainers(tmp_path) == {}
