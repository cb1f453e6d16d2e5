"""`tunematrix init` in folders of all kinds, and what works there afterwards."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tunematrix.paths import pytest_file

NOXFILE = "import nox\n\n\n@nox.session\ndef docs(session):\n    session.log('mine')\n"

PYPROJECT = """\
# The project of Kim.
[build-system]
requires = ["hatchling"]   # kept as it is
build-backend = "hatchling.build"

[project]
name = "mine"
version = "1.0"

[tool.pytest.ini_options]  # for my own tests
testpaths = [
    "tests",
]
addopts = "--cov=mine"

[tool.other]
text = '''
[tool.pytest.ini_options]
'''
"""


@dataclass(frozen=True)
class Folder:
    """A folder that commands are run in.

    Attributes:
        root: the folder.
    """

    root: Path

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a module of Python in it."""
        foreign = ("NOX_", "TUNEMATRIX_", "FORCE_COLOR", "PYTEST_")
        env = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.root,
            env=env | {"NO_COLOR": "1", "COLUMNS": "100"} | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )

    def init(self, *arguments: str) -> str:
        """Call `tunematrix init`, which has to succeed; return what it says."""
        ended = self.run("tunematrix", "init", *arguments)
        assert ended.returncode == 0, ended.stdout
        return ended.stdout

    def write(self, name: str, text: str) -> Path:
        """Write a file, byte for byte."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        return path

    def read(self, name: str) -> str:
        """Read a file, byte for byte."""
        return (self.root / name).read_bytes().decode()

    @property
    def files(self) -> dict[str, str]:
        """All files, and what they read."""
        paths = sorted(path for path in self.root.rglob("*") if path.is_file())
        return {str(path.relative_to(self.root)): path.read_bytes().decode() for path in paths}

    @property
    def pyproject(self) -> dict[str, object]:
        """What pyproject.toml means."""
        return tomllib.loads(self.read("pyproject.toml"))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """An empty folder."""
    return Folder(tmp_path)


def deeds(said: str) -> dict[str, str]:
    """File → what was done to it."""
    rows = re.findall(r"^(wrote|added to|kept) +(\S+) ", said, re.MULTILINE)
    return {file: deed for deed, file in rows}


def lines_of(said: str) -> list[str]:
    """The lines that are left to the reader, without their indentation."""
    return [line[4:] for line in said.splitlines() if line.startswith("    ")]


def test_an_empty_folder(folder: Folder) -> None:
    """Four files; each is named, and the sessions, the plan and the next steps are there."""
    said = folder.init()
    assert deeds(said) == dict.fromkeys(
        ["noxfile.py", "pyproject.toml", "configs/specs/first.yaml", ".gitignore"], "wrote"
    )
    assert "nox -s " in said
    listed = folder.run("nox", "-l").stdout
    for name in ("cpu", "cuda", "mps", "mlx", "cpu-lowest", "mlx-latest"):
        assert f"- {name} -> Test " in listed
    plan = folder.run("tunematrix", "plan", "-e", "mlx").stdout
    assert "first[mlx-lora-none]" in plan
    assert "mlx-memory-lora[" in plan  # the shipped suite as well
    collected = folder.run("pytest", "--environment=cpu", "--collect-only", "-q", "-m", "smoke")
    assert "configs/specs/first.yaml::first[cpu-lora-none]" in collected.stdout
    assert "lora.yaml::" in collected.stdout or "full.yaml::" in collected.stdout


def test_nothing_but_a_wheel(folder: Folder) -> None:
    """Without any file, the environments and the suite that ship are there."""
    plan = folder.run("tunematrix", "plan", "-e", "cpu").stdout
    assert "lora[cpu-lora-none]" in plan
    collected = folder.run("pytest", "--environment=mlx", "--collect-only", "-q")
    assert "::lora[mlx-lora-none]" in collected.stdout
    nothing = folder.run("pytest", "--collect-only", "-q")  # asks for no environment
    assert nothing.returncode == 5
    assert "::" not in nothing.stdout


def test_again(folder: Folder) -> None:
    """A second call changes nothing, and says so."""
    folder.init("--ci")
    before = folder.files
    said = folder.init("--ci")
    assert set(deeds(said).values()) == {"kept"}
    assert folder.files == before


def test_some_environments(folder: Folder) -> None:
    """Those alone are sessions."""
    folder.init("--environments", "mlx, cpu")
    listed = folder.run("nox", "-l").stdout
    assert "- mlx -> " in listed
    assert "- cuda" not in listed
    said = folder.init("--environments", "cuda")
    assert lines_of(said)[-2:] == ["[tool.tunematrix.environments]", 'shipped = ["cuda"]']


def test_a_project_that_is_there(folder: Folder) -> None:
    """Every line of it stays; what only its owner may add is shown, and works once added."""
    folder.write("noxfile.py", NOXFILE)
    folder.write("pyproject.toml", PYPROJECT)
    folder.write(".gitignore", "*.pyc\n/.nox")
    (folder.root / "src/mine").mkdir(parents=True)
    before = folder.pyproject
    said = folder.init()
    assert deeds(said) == {
        "noxfile.py": "kept",
        "pyproject.toml": "added to",
        "configs/specs/first.yaml": "wrote",
        ".gitignore": "added to",
    }
    assert folder.read("noxfile.py") == NOXFILE
    assert folder.read(".gitignore").startswith("*.pyc\n/.nox\n")
    assert folder.read(".gitignore").splitlines().count(".nox/") == 0
    assert ".tunematrix/" in folder.read(".gitignore").splitlines()
    after = folder.read("pyproject.toml").splitlines()
    kept = iter(after)
    assert all(line in kept for line in PYPROJECT.splitlines()), "a line was lost or moved"
    parsed = folder.pyproject
    tool = parsed["tool"]
    assert isinstance(tool, dict)
    assert tool.pop("tunematrix")["environments"]["shipped"] == ["cpu", "cuda", "mps", "mlx"]
    assert tool["pytest"]["ini_options"].pop("tunematrix_specs") == ["shipped", "configs/specs"]
    assert parsed == before
    to_add = lines_of(said)
    assert "from tunematrix.nox import environments" in to_add
    folder.write("noxfile.py", NOXFILE + "\n" + "\n".join(to_add) + "\n")
    listed = folder.run("nox", "-l").stdout
    assert "* docs" in listed
    assert "- cpu -> " in listed


def test_ends_of_lines(folder: Folder) -> None:
    """A file from Windows stays one, also where its last line has no end."""
    folder.write("pyproject.toml", PYPROJECT.rstrip("\n").replace("\n", "\r\n"))
    folder.init()
    text = folder.read("pyproject.toml")
    assert text.count("\n") == text.count("\r\n")
    assert "shipped" in text


@pytest.mark.each_time(1)
@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("pytest.ini", "pytest"),
        ("pytest.toml", "pytest"),
        ("tox.ini", "pytest"),
        ("setup.cfg", "tool:pytest"),
    ],
)
def test_pytest_has_another_file(folder: Folder, name: str, section: str) -> None:
    """No table comes into pyproject.toml that would hide it; its lines are shown, and work."""
    text = f"[{section}]\nxfail_strict = true\n"
    folder.write(name, text)
    said = folder.init()
    assert folder.read(name) == text
    assert "pytest" not in folder.read("pyproject.toml")
    assert deeds(said)[name] == "kept"
    folder.write(name, text + "\n".join(lines_of(said)) + "\n")
    assert pytest_file(folder.root) == folder.root / name
    plan = folder.run("tunematrix", "plan", "-e", "mlx").stdout
    assert "first[mlx-lora-none]" in plan
    collected = folder.run("pytest", "--environment=mlx", "--collect-only", "-q").stdout
    assert "first[mlx-lora-none]" in collected


def test_setuptools_finds_packages_itself(folder: Folder) -> None:
    """A second folder beside the package would stop its build, so that specs go elsewhere."""
    folder.write("pyproject.toml", '[project]\nname = "mine"\nversion = "1"\n')
    folder.write("mine/__init__.py", "")
    said = folder.init()
    assert deeds(said)["tests/specs/first.yaml"] == "wrote"
    assert not (folder.root / "configs").exists()
    assert "first[cpu-lora-none]" in folder.run("tunematrix", "plan").stdout


@pytest.mark.parametrize(
    "text",
    [
        "tool.tunematrix = {}\n",
        "[tool]\ntunematrix = {held_back = []}\n",
        'tool = {pytest = {ini_options = {testpaths = ["t"]}}}\n',
    ],
)
def test_a_table_in_a_form_of_its_own(folder: Folder, text: str) -> None:
    """What can't be extended by lines is left alone, and the lines are shown."""
    folder.write("pyproject.toml", text)
    said = folder.init()
    assert folder.read("pyproject.toml") == text
    assert "[tool.tunematrix.environments]" in lines_of(said)


@pytest.mark.parametrize(
    ("files", "arguments", "told"),
    [
        ({}, ["--environments", "cuba"], "--environments cuba: is not one; did you mean cuda"),
        ({"pyproject.toml": "[tool\n"}, [], "pyproject.toml: can't be read: "),
        (
            {"pyproject.toml": "[tool.tunematrix.environments.cpu]\nbackend = []\n"},
            [],
            "environments.cpu.backend: is not a known key; did you mean backends",
        ),
        ({"noxfile.py": "# \udce9"}, [], "noxfile.py: can't be read: "),
        ({"configs": "a file"}, [], "configs"),
    ],
)
def test_bad_input(
    folder: Folder, files: dict[str, str], arguments: Sequence[str], told: str
) -> None:
    """It is said in one line, and nothing is changed that was there."""
    for name, text in files.items():
        (folder.root / name).write_bytes(text.encode(errors="surrogateescape"))
    ended = folder.run("tunematrix", "init", *arguments)
    assert ended.returncode in (4, 6)
    assert told in ended.stdout
    assert "Traceback" not in ended.stdout
    for name, text in files.items():
        assert (folder.root / name).read_bytes() == text.encode(errors="surrogateescape")


def test_a_wrong_table_ends_nox_with_a_message(folder: Folder) -> None:
    """In a project of one's own as well."""
    folder.init()
    file = folder.root / "pyproject.toml"
    file.write_text(file.read_text().replace('"cuda"', '"cuba"'))
    ended = folder.run("nox", "-l")
    assert ended.returncode == 1
    assert "environments.shipped: cuba is not one; did you mean cuda" in ended.stdout
    assert "Traceback" not in ended.stdout
