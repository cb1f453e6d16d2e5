"""Real cells over a virtualenv that somebody has, and its files before and after."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from tests.unit.environments import packing

from tunematrix.environments import uv
from tunematrix.paths import project_root

ROOT = project_root(Path(__file__).parent)
HERE = Path(sysconfig.get_path("purelib"))
NOXFILE = "from tunematrix.nox import environments\n\nenvironments()\n"
PROJECT = """[project]
name = "mine"
version = "1"
requires-python = ">=3.11"
dependencies = ["torch", "corpus-of-mine"]
[tool.uv]
package = false
"""
LOCKED = f"{version('torch').partition('+')[0]}+locked"
CELLS = ("-m", "smoke", "-k", "parity or full-none")


def theirs(folder: Path) -> Path:
    """Make a virtualenv with the libraries of these tests, two of them its own; its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python3.*/site-packages")
    (packages / "more.pth").write_text(f"import site; site.addsitedir({str(HERE)!r})\n")
    bare = shutil.ignore_patterns("__pycache__")
    for found in [*HERE.glob("packaging*"), *HERE.glob("pluggy*")]:
        shutil.copytree(found, packages / found.name, ignore=bare)
    return folder / "bin" / "python"


def locked(folder: Path) -> None:
    """Make a project of somebody's: its locks, its virtualenv, and what its own tests left.

    The torch that is locked finds the libraries of these tests, so that none has to be fetched.
    """
    packing.wheel(folder / "wheels", "corpus_of_mine", "1.0")
    name = f"torch-{LOCKED}"
    with zipfile.ZipFile(folder / "wheels" / f"{name}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("more.pth", f"import site; site.addsitedir({str(HERE)!r})\n")
        about = f"Metadata-Version: 2.1\nName: torch\nVersion: {LOCKED}\n"
        wheel.writestr(f"{name}.dist-info/METADATA", about)
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{name}.dist-info/WHEEL", tags)
        wheel.writestr(f"{name}.dist-info/RECORD", "")
    (folder / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
    export = ("export", "--frozen", "--no-emit-project", "--emit-find-links")
    for command in (
        ("lock", "--no-index"),
        ("sync", "--frozen", "--no-index", "--compile-bytecode"),
        (*export, "--output-file=requirements.txt"),
    ):
        more = ("--find-links=wheels", "--quiet", f"--python={sys.executable}")
        subprocess.run([uv.program(), *command, *more], cwd=folder, check=True)
    left = folder / ".pytest_cache" / "v" / "cache"
    left.mkdir(parents=True)
    (left / "lastfailed").write_text('{"test_mine.py::test_a": true}', encoding="utf-8")


def files(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file below a folder, its bytecode too: size, when it was written, content."""
    paths = [path for path in folder.rglob("*") if not path.is_dir()]
    return {str(p): (p.lstat().st_size, p.lstat().st_mtime_ns, p.read_bytes()) for p in paths}


def shared() -> dict[str, tuple[int, int]]:
    """Every file of these tests' own libraries, but bytecode, which other tests write as well."""
    found: dict[str, tuple[int, int]] = {}
    for top, folders, names in os.walk(HERE):
        folders[:] = [name for name in folders if name != "__pycache__"]
        stats = {name: Path(top, name).lstat() for name in names}
        found |= {f"{top}/{n}": (s.st_size, s.st_mtime_ns) for n, s in stats.items()}
    return found


def run(folder: Path, *command: str) -> str:
    """Run a module of Python in a project, which has to succeed; return what it says."""
    foreign = ("NOX_", "TUNEMATRIX_", "PYTEST_", "PYTHON", "FORCE_COLOR")
    env = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
    ended = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=env | {"NO_COLOR": "1", "PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.skipif(not packing.has_uv(), reason="uv is not here; nox[uv] brings it")
def test_a_virtualenv_is_proven_and_stays(tmp_path: Path) -> None:
    """By a session and by the verb, with its own versions, and no file of it is touched."""
    python = theirs(tmp_path / "venv")
    project = tmp_path / "project"
    project.mkdir()
    (project / "noxfile.py").write_text(NOXFILE, encoding="utf-8")
    row = f'[tool.tunematrix.environments.mine]\nbackends = ["cpu"]\ninterpreter = "{python}"\n'
    (project / "pyproject.toml").write_text(row, encoding="utf-8")
    before, libraries = files(tmp_path / "venv"), shared()

    said = run(project, "nox", "-s", "mine", "--", *CELLS)
    assert f"torch {version('torch')}" in said
    records = [
        json.loads(line)
        for line in (project / ".tunematrix/mine/results.jsonl").read_text().splitlines()
    ]
    ran = {one["cell_id"]: one for one in records if one["outcome"] != "unsupported"}
    assert {name: one["outcome"] for name, one in ran.items()} == {
        "parity[cpu]": "passed",
        "full[cpu-full-none]": "passed",
    }
    versions = ran["full[cpu-full-none]"]["versions"]
    for name in ("torch", "transformers", "trl"):
        assert versions[name] == version(name)
    listed = run(project, "tunematrix", "prove", "--python", str(python), "--collect-only", *CELLS)
    assert "full[cpu-full-none]" in listed
    assert (project / ".tunematrix" / "cpu-yours" / "venv").is_dir()

    assert files(tmp_path / "venv") == before
    assert shared() == libraries
    # That this would show: what a Python leaves that is run as anybody does.
    plain = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    subprocess.run([python, "-c", "import pluggy"], env=plain, check=True)
    assert files(tmp_path / "venv") != before


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.skipif(not packing.has_uv(), reason="uv is not here; nox[uv] brings it")
@pytest.mark.parametrize("kind", ["uv.lock", "requirements.txt"])
def test_a_lock_is_proven_and_its_project_stays(tmp_path: Path, kind: str) -> None:
    """Neither its virtualenv, nor its locks, nor what its own tests keep is touched."""
    project = tmp_path / "project"
    project.mkdir()
    locked(project)
    before, libraries = files(project), shared()

    said = run(project, "tunematrix", "prove", "--lock", kind, *CELLS)
    assert f"torch {LOCKED}" in said and "2 passed" in said
    state = project / ".tunematrix"
    assert (state / "cpu-yours" / "set" / "bin" / "python").exists()

    now = files(project).items()
    assert {name: one for name, one in now if not Path(name).is_relative_to(state)} == before
    assert shared() == libraries
