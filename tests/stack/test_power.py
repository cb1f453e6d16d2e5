"""`tunematrix faults` on real cells, with a module of faults from outside of every fate."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tunematrix.faults.catalogue import CLASSES
from tunematrix.matrix.plan import plan as make_plan
from tunematrix.paths import PACKAGE
from tunematrix.project import read_project
from tunematrix.proof.faults.catalogue import discover
from tunematrix.spec.loader import load_specs

PYPROJECT = """
[tool.pytest.ini_options]
tunematrix_configs = ["conf"]
tunematrix_specs = ["specs"]

[tool.tunematrix.environments.cpu]
description = "One processor"
backends = ["cpu"]
"""
SPEC = """
test_id: small
recipe: sft
matrix: {method: [full]}
overrides: {train.max_steps: 3, train.batch_size: 4, meters.held_out_rows: 8}
"""
# Nothing else is tried where this one notices nothing.
TABLE = 'classes: {}\neverything: ["small[*-full]"]\n'

FAULTS = '''
"""Faults of a user's own: plain context managers, without any word about tunematrix."""

import contextlib

import safetensors.torch
import torch


class Halved:
    """Halve every rate, written as a class."""

    fault_class = "scheduler"

    def __init__(self, config):
        self.original = torch.optim.lr_scheduler.LambdaLR.get_lr

    def __enter__(self):
        original = self.original
        torch.optim.lr_scheduler.LambdaLR.get_lr = lambda self: [r / 2 for r in original(self)]

    def __exit__(self, *_):
        torch.optim.lr_scheduler.LambdaLR.get_lr = self.original


@contextlib.contextmanager
def never_restores(config):
    """Treble every rate, for good."""
    original = torch.optim.lr_scheduler.LambdaLR.get_lr
    torch.optim.lr_scheduler.LambdaLR.get_lr = lambda self: [r * 3 for r in original(self)]
    yield


@contextlib.contextmanager
def spoils_nothing(config):
    """Write a word into the head of each safetensors file, where no one reads it."""
    original = safetensors.torch.serialize_file

    def write(tensors, path, metadata=None):
        return original(tensors, path, metadata={**(metadata or {}), "word": "here"})

    safetensors.torch.serialize_file = write
    yield


@contextlib.contextmanager
def changes_nothing(config):
    """Patch what is never called."""
    torch.optim.Rprop.step = lambda self: None
    yield


@contextlib.contextmanager
def crashes(config):
    """Let the backward pass raise."""

    def backward(*_, **__):
        raise RuntimeError("no gradient today")

    torch.Tensor.backward = backward
    yield


@contextlib.contextmanager
def raises_itself(config):
    """Ask for what isn't in the configuration."""
    config.no_such_section
    yield


@contextlib.contextmanager
def never_stops(config):
    """Yield twice, and so break on its way out."""
    yield
    yield


@contextlib.contextmanager
def patched(owner, name):
    """A helper, and no fault: it takes two arguments."""
    yield
'''

WANTED = {
    "mine.Halved": "detected",
    "mine.never_restores": "detected",
    "mine.spoils_nothing": "missed",
    "mine.changes_nothing": "unreached",
    "mine.crashes": "crashed",
    "mine.raises_itself": "broken",
    "mine.never_stops": "broken",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of its own, with faults of its own."""
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "faults.yaml").write_text(TABLE)
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "small.yaml").write_text(SPEC)
    (tmp_path / "mine.py").write_text(FAULTS)
    return tmp_path


def faults(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the verb in a project."""
    command = [sys.executable, "-m", "tunematrix", "faults", "-n", "1", *arguments]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)


@pytest.mark.nightly
def test_the_fate_of_each(project: Path) -> None:
    """Each cell has a process of its own: what one never puts back, the next doesn't meet."""
    names = " or ".join(name.partition(".")[2] for name in WANTED)
    end = faults(project, "--module", "mine.py", "-k", f"mine and ({names})")
    text = end.stdout + end.stderr
    assert end.returncode == 1, text
    data: dict[str, Any] = json.loads((project / ".tunematrix" / "faults.json").read_text())
    found = {row["id"]: row for row in data["findings"]}
    assert {name: row["fate"] for name, row in found.items()} == WANTED, text
    halved = found["mine.Halved"]
    assert (halved["by"], halved["where"]) == ("learning_rate", "small[cpu-full]")
    assert halved["fault_class"] == "scheduler"
    assert "no gradient today" in found["mine.crashes"]["reason"]
    raised = found["mine.raises_itself"]["reason"]
    assert re.search(r"raises_itself raised on its way in \(line \d+: AttributeError", raised)
    assert "never_stops raised on its way out" in found["mine.never_stops"]["reason"]
    assert data["crashed"] == ["mine.crashes"]
    assert data["unreached"] == ["mine.changes_nothing"]
    assert (data["total"], data["detected"]) == (7, 2)
    assert "it changed nothing in small[cpu-full]" in " ".join(text.split())


@pytest.mark.each_time(2)
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import math\n1 / 0\n", "mine.py: line 2: ZeroDivisionError: division by zero"),
        ("import nowhere\n", "mine.py: line 1: ModuleNotFoundError: No module named 'nowhere'"),
        ("def helper(one, two):\n    pass\n", "mine.py: has no fault; write a context manager"),
        ("def broken(:\n", "SyntaxError"),
    ],
)
def test_a_module_that_can_not_be_used(project: Path, text: str, told: str) -> None:
    """Told with its line, before any cell runs."""
    (project / "mine.py").write_text(text)
    end = faults(project, "--module", "mine.py")
    assert end.returncode == 4, end.stdout + end.stderr
    assert told in end.stderr
    assert "Traceback" not in end.stderr


def test_each_shipped_fault_names_cells_that_there_are(tmp_path: Path) -> None:
    """A name with a slip of the pen is passed over where another one fits, and nobody would see."""
    setting = read_project(PACKAGE, "cpu")
    suite = make_plan(load_specs(setting.spec_folders), setting.groups, setting.environment)
    there = {cell.id for cell in suite.cells} | {related.id for related in suite.relations}
    entries = discover([], tmp_path / "catalogue.json")
    named = {(entry.id, pattern) for entry in entries for pattern in entry.seen_by}
    assert {one for one in named if one[1].replace("[*", "[cpu") not in there} == set()
    assert {entry.fault_class for entry in entries} == {*CLASSES}
    assert all(entry.summary for entry in entries)
