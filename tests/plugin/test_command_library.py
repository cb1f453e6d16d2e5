"""A backend that names a library: a trainer's command that takes another one is noticed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject, Project, Run

# NumPy, since any library will do.
BACKEND = """
name: plain
engine: python
device: cpu
max_grad_norm: 1.0
library: _multiarray_umath
"""
TRAINER = """
import ctypes, json, mmap, subprocess, sys, time
from pathlib import Path

way, output = sys.argv[1:]
if way in ("main", "late"):
    if way == "late":
        time.sleep(1)
    import numpy
if way == "child":
    subprocess.run([sys.executable, "-c", "import numpy, time; time.sleep(0.5)"], check=True)
if way == "maps":
    kept = open(sys.argv[0].replace("train.py", "kept/_multiarray_umath.so"), "rb")
    mapped = mmap.mmap(kept.fileno(), 0, access=mmap.ACCESS_READ)
if way == "below":
    ctypes.CDLL(str(Path("_multiarray_umath/other.so").resolve()))
if way == "mentions":
    open(sys.argv[0].replace("train.py", "kept/_multiarray_umath.so")).read()
lines = [{"step": step, "loss": 3.0 / step, "learning_rate": 0.1} for step in range(1, 9)]
time.sleep(0.5)
log = {"global_step": 8, "log_history": lines}
Path(output, "trainer_logs.json").write_text(json.dumps(log))
"""
WAYS = {
    "main": "passed",
    "late": "passed",
    "child": "passed",
    "another": "failed",
    "mentions": "failed",
    "maps": "failed",
    "below": "failed",
}


@pytest.fixture(scope="module")
def ran(new_project: NewProject) -> tuple[Project, Run]:
    """One run of all the ways."""
    project = new_project()
    pyproject = project.root / "pyproject.toml"
    words = '["{python}", "train.py", "{config}", "{output_dir}"]'
    more = f"[tool.tunematrix.trainers.toy]\ncommand = {words}\n"
    pyproject.write_text(f"{pyproject.read_text()}{more}", encoding="utf-8")
    project.write("conf/backend/plain.yaml", BACKEND)
    project.write("toy/train.py", TRAINER)
    project.write("toy/kept/_multiarray_umath.so", "not loaded, but read")
    # Some other library's code, in a folder that is called as the library.
    code = next(Path(psutil.__file__).parent.glob("_psutil_*.so"))
    (project.root / "toy/_multiarray_umath").mkdir()
    shutil.copy(code, project.root / "toy/_multiarray_umath/other.so")
    for way in WAYS:
        fields = f"test_id: {way}\nproject_dir: toy\nconfig: {way}\ngpu_requirement: 0\n"
        project.write(f"specs/{way}.yaml", fields)
    return project, project.pytest()


@pytest.mark.parametrize("way", WAYS)
def test_the_library_that_a_command_loads(ran: tuple[Project, Run], way: str) -> None:
    """It may come late or in a process of the trainer's own; a file that is read isn't loaded."""
    project, run = ran
    record = project.record[f"{way}[plain]"]
    failed = [check["name"] for check in record["checks"] if check["outcome"] == "failed"]
    assert record["outcome"] == WAYS[way], run.text
    assert failed == ([] if WAYS[way] == "passed" else ["library_loaded"])
