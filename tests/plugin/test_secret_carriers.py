"""The same credentials on their way to other machines, and to indexes of packages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.plugin.fleets import Fleet, fleet_of
from tests.plugin.test_command import commit
from tests.plugin.test_secret_channels import CORES, ENVIRONMENT, VALUES, found_in, made, named_in
from tests.unit.environments import packing

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject

SPECS = ("printed", "raised", "dying", "configured", "known", "unprepared")
NOWHERE = "127.0.0.1:9"
TOKEN = CORES["PIP_INDEX_URL"]
INDEX = f"https://me:{TOKEN}@{NOWHERE}/simple"
BISECT = ["bisect", "raised[plain-plain]", "-e", "plain"]
REMOTE = f"https://{TOKEN}TOKEN@git.example.org/me/mine.git"


@pytest.fixture(scope="module")
def fleet(new_project: NewProject) -> Iterator[Fleet]:
    """A scheduler and a worker that know all of them, in a repository whose remote has one."""
    project = made(new_project())
    commit(project)
    subprocess.run(["git", "remote", "add", "origin", REMOTE], cwd=project.root, check=True)
    with fleet_of(project) as fleet:
        fleet.variables.update(ENVIRONMENT)
        fleet.worker("plain", "-n1", "--name=theirs")
        yield fleet


def left_in(folder: Path) -> dict[str, set[str]]:
    """The credentials that files below a folder give away, by the file's name."""
    found = {file: found_in(read(file)) for file in folder.rglob("*") if file.is_file()}
    return {file.name: names for file, names in found.items() if names}


def read(file: Path) -> str:
    """What is in a file, whatever that is."""
    return file.read_bytes().decode("utf-8", "replace")


@pytest.mark.parametrize("knows", [ENVIRONMENT, {}], ids=["known here too", "known there alone"])
def test_a_fleet(fleet: Fleet, knows: dict[str, str]) -> None:
    """Neither the run, its records and evidence, nor the worker and the scheduler say any."""
    project = fleet.project
    specs = [f"specs/{name}.yaml" for name in (SPECS if knows else SPECS[:3])]
    run = project.pytest("-v", "-rA", *fleet.options, *specs, **knows)
    assert run.code == 1
    assert found_in(run.text) == set()
    assert len(named_in(run.text)) > len(VALUES) - 2
    assert left_in(project.root / ".tunematrix/plain") == {}
    assert {name for member in fleet.members for name in found_in(member.said)} == set()
    assert left_in(project.root / ".tunematrix/workers") == {}


@pytest.mark.each_time(2)
@pytest.mark.parametrize(
    "command",
    [
        ["upgrade", "-e", "plain", "wobble==7"],
        [*BISECT, "--good", "wobble==1", "--bad", INDEX],
        [*BISECT, "--good", "wobble==1", "--bad", "wobble==2"],
        [*BISECT, "--good", INDEX, "--bad", "plain"],
        ["wheels", "out", "--have", "have.txt", "-e", "plain"],
        ["prove", "-e", "mine"],
        ["prove", "-e", "mine", "--lock", "lock.txt"],
        ["worker", f"me:{TOKEN}@{NOWHERE}", "-e", "plain"],
        ["run", "-e", "plain", f"--fleet=tls://me:{TOKEN}@{NOWHERE}"],
    ],
    ids=lambda words: " ".join(words)[:40],
)
@pytest.mark.parametrize("place", ["variable", "file"])
@pytest.mark.skipif(not packing.has_uv(), reason="uv is not here; nox[uv] brings it")
def test_an_index_that_cannot_be_reached(
    fleet: Fleet, tmp_path: Path, command: list[str], place: str
) -> None:
    """Of its address, what stands before the @ is nowhere: in a variable or in pip's own file."""
    project = fleet.project
    file = tmp_path / "pip.conf"
    file.write_text(f"[global]\nindex-url = {INDEX}\n", encoding="utf-8")
    row = f'backends = ["plain"]\ninterpreter = "{sys.executable}"\n'
    table = f"\n[tool.tunematrix.environments.mine]\n{row}"
    settings = project.root / "pyproject.toml"
    if "mine" not in settings.read_text(encoding="utf-8"):
        settings.write_text(settings.read_text(encoding="utf-8") + table, encoding="utf-8")
    project.write("have.txt", "pip==1.0\n")
    project.write("lock.txt", f"--index-url {INDEX}\nwobble==1.0\n")
    told = {"PIP_INDEX_URL": INDEX} if place == "variable" else {"PIP_CONFIG_FILE": str(file)}
    alone = {"PIP_NO_INDEX": "0", "PIP_FIND_LINKS": "", "UV_HTTP_RETRIES": "0", "UV_NO_CACHE": "1"}
    run = project.run([sys.executable, "-m", "tunematrix", *command], **alone, **told)
    assert run.code in (4, 6), run.text
    assert TOKEN not in run.text
    assert left_in(project.root / ".tunematrix") == {}


def test_what_is_watched(fleet: Fleet) -> None:
    """Its record, its evidence and the verdicts; what it prints itself is passed on as it is."""
    project = fleet.project
    words = [f"{name}={value}" for name, value in VALUES.items()]
    command = [sys.executable, "-c", "import sys; print(sys.argv, file=sys.stderr)", *words]
    watch = [sys.executable, "-m", "tunematrix", "watch", "-o", "watched", "--", *command]
    run = project.run(watch, **ENVIRONMENT)
    assert run.code == 5
    assert left_in(project.root / "watched") == {}
    as_json = project.run([*watch[:4], "--json", *watch[4:]], **ENVIRONMENT)
    assert found_in(as_json.text[as_json.text.index("{\n") : as_json.text.rindex("\n}")]) == set()


def test_a_summary_of_a_workflow(fleet: Fleet, tmp_path: Path) -> None:
    """As the workflow of `init --ci` writes it."""
    project = fleet.project
    run = project.pytest("specs/raised.yaml", "specs/known.yaml", **ENVIRONMENT)
    assert run.code == 1
    summary = tmp_path / "summary.md"
    words = f"{sys.executable} -m tunematrix report .tunematrix/plain/results.jsonl --markdown -"
    tee = f'{words} | tee report.md >> "$GITHUB_STEP_SUMMARY"'
    assert project.run(["sh", "-c", tee], GITHUB_STEP_SUMMARY=str(summary), **ENVIRONMENT).code == 0
    assert "raised" in read(summary) and found_in(read(summary)) == set()
