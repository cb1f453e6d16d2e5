"""A project of its own for each test, with cheap recipes and no ML library anywhere near."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.plugin.distributions import Install, Points, install, path_with

from tunematrix.cli import main

RECIPES = Path(__file__).with_name("tiny_recipes.py")

PYPROJECT = """
[tool.pytest.ini_options]
tunematrix_specs = ["specs"]
tunematrix_configs = ["conf"]
testpaths = ["specs"]
addopts = ["-p", "tunematrix.plugin.hooks", "-p", "no:cacheprovider", "--strict-markers"]

[tool.tunematrix.environments.plain]
description = "Nothing but Python"
backends = ["plain"]
"""

BACKEND = """
name: plain
engine: python
device: cpu
max_grad_norm: 1.0
requires: []
preload: [hydra.utils]
"""

# What a session around these tests may have set.
FOREIGN = {
    "BUILD_NUMBER",
    "CI",
    "NOX_CURRENT_SESSION",
    "PYTEST_ADDOPTS",
    "PYTEST_XDIST_WORKER",
    "PYTHONDONTWRITEBYTECODE",
}
MARK = "TUNEMATRIX_TESTED_BY"


@dataclass(frozen=True)
class Run:
    """What one command said and how it ended.

    Attributes:
        code: exit code.
        text: stdout, then stderr.
    """

    code: int
    text: str

    @property
    def short_summary(self) -> list[str]:
        """The lines of pytest's short summary."""
        _, _, rest = self.text.partition("short test summary info")
        rest, _, _ = rest.partition("= tunematrix ")
        return [line for line in rest.splitlines()[1:] if "::" in line]

    @property
    def collected(self) -> list[str]:
        """The node ids that `--collect-only -q` lists."""
        return [line for line in self.text.splitlines() if "::" in line]


def _variables() -> dict[str, str]:
    # All that is installed beside pytest would be imported in every run: half of its time.
    return {MARK: uuid.uuid4().hex, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": "100"}


@dataclass(frozen=True)
class Project:
    """A folder with a pyproject.toml, specs and config groups.

    Attributes:
        root: the folder.
        variables: environment variables of all that is run in it.
    """

    root: Path
    variables: dict[str, str] = field(default_factory=_variables)

    @property
    def records(self) -> list[dict[str, Any]]:
        """All records, exclusions too; each line has to be whole."""
        lines = (self.root / ".tunematrix/plain/results.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    @property
    def record(self) -> dict[str, dict[str, Any]]:
        """The records by cell; each has one."""
        by_cell = {record["cell_id"]: record for record in self.records}
        assert len(by_cell) == len(self.records), "a cell has several records"
        return by_cell

    @property
    def outcomes(self) -> dict[str, str]:
        """Outcome by cell."""
        return {cell: record["outcome"] for cell, record in self.record.items()}

    def write(self, file: str, text: str) -> Path:
        """Write a file of the project."""
        path = self.root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def spec(self, name: str, recipe: str, text: str = "", quantizers: str = "[plain]") -> None:
        """Write a spec whose cells are called name[plain-<quantizer>]."""
        head = f"test_id: {name}\nrecipe: {recipe}\nmatrix: {{quantizer: {quantizers}}}\n"
        self.write(f"specs/{name}.yaml", head + text)

    def option(self, axis: str, name: str, text: str = "") -> None:
        """Write an option of an axis."""
        self.write(f"conf/{axis}/{name}.yaml", f"name: {name}\n{text}")

    def junit(self, file: str = ".tunematrix/plain/junit.xml") -> dict[str, str]:
        """What JUnit says of each cell: passed, or its element's tag and type."""
        cases = ElementTree.parse(self.root / file).getroot().iter("testcase")
        # pytest leaves a nameless one for a cell that was interrupted.
        return {case.attrib["name"]: _case(case) for case in cases if "name" in case.attrib}

    def pytest(self, *arguments: str, cwd: str = ".", **variables: str) -> Run:
        """Run pytest on the project's specs."""
        command = [sys.executable, "-m", "pytest", "--environment=plain", *arguments]
        return self.run(command, cwd=cwd, **variables)

    def tunematrix(self, *arguments: str) -> Run:
        """Run a verb of the command line."""
        return self.run([sys.executable, "-m", "tunematrix", *arguments])

    def run(self, command: Sequence[str], cwd: str = ".", **variables: str) -> Run:
        """Run any command in a folder of the project, and see that it leaves nothing running."""
        with self.started(command, cwd, **variables) as process:
            out, err = process.communicate(timeout=300)
            left = self.still_running(seconds=30)
        assert not left, f"{command} left {left} running:\n{out}{err}"
        return Run(process.returncode, out + err)

    @contextmanager
    def started(
        self, command: Sequence[str], cwd: str = ".", **variables: str
    ) -> Iterator[subprocess.Popen[str]]:
        """Start a command in a process group of its own, as a terminal does."""
        environment = {k: v for k, v in os.environ.items() if k not in FOREIGN}
        with subprocess.Popen(
            command,
            cwd=self.root / cwd,
            env={**environment, **self.variables, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        ) as process:
            try:
                yield process
            finally:
                for left in self._running():
                    with suppress(psutil.NoSuchProcess):
                        left.kill()

    def wait_for(self, condition: Callable[[], object], seconds: float = 120) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.05)

    def still_running(self, seconds: float) -> list[str]:
        """Command lines of what was started in this project and still runs after some time."""
        deadline = time.monotonic() + seconds
        while (left := self._running()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return [str(process) for process in left]

    def _running(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARK) == self.variables[MARK]:
                    found.append(process)
        return found


def _case(case: ElementTree.Element) -> str:
    children = [child for child in case if child.tag != "properties"]
    found: Mapping[str, str] = {child.tag: child.attrib.get("type", "") for child in children}
    return " ".join(part for entry in found.items() for part in entry if part) or "passed"


NewProject = Callable[[], Project]


@pytest.fixture(scope="session")
def new_project(tmp_path_factory: pytest.TempPathFactory) -> NewProject:
    """Makes a project with an option for each of the tiny recipes, and no spec yet."""

    def new() -> Project:
        project = Project(tmp_path_factory.mktemp("project"))
        project.write("pyproject.toml", PYPROJECT)
        project.write("conf/backend/plain.yaml", BACKEND)
        project.option("quantizer", "plain")
        project.option("quantizer", "tiny-int4")
        shutil.copy(RECIPES, project.root)
        for name in re.findall(r"^def (\w+)\(config: Config, events", RECIPES.read_text(), re.M):
            target = f"{{_target_: tiny_recipes.{name}, _partial_: true}}"
            project.option("recipe", name, f"implementation: {target}\n")
        return project

    return new


Verb = Callable[..., tuple[int, str]]


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Verb:
    """Runs a verb of the command line that needs no process of its own, in a project."""

    def run(project: Project, *arguments: str) -> tuple[int, str]:
        monkeypatch.chdir(project.root)
        monkeypatch.setattr("sys.argv", ["tunematrix", *arguments])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        return code, "".join(capsys.readouterr())

    return run


@pytest.fixture
def project(new_project: NewProject) -> Project:
    """A project of this test's own."""
    return new_project()


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a distribution called `zipq-plugin` for this process and those it starts."""

    def install_here(files: Mapping[str, str], points: Points) -> None:
        site = str(install(tmp_path, "zipq_plugin", files, points))
        monkeypatch.syspath_prepend(site)
        monkeypatch.setenv("PYTHONPATH", path_with(site))
        monkeypatch.setenv("IMPORTED", str(tmp_path / "imported"))

    yield install_here
    # The next test's distribution has modules of the same names.
    for name in [name for name in sys.modules if name.partition(".")[0] == "zipq"]:
        del sys.modules[name]
