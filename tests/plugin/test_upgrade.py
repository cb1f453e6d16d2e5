"""`tunematrix upgrade` as a user runs it, over releases of a library that is made here."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.plugin.test_prove import files, theirs
from tests.unit.versions.conftest import make_wheel

if TYPE_CHECKING:
    from tests.plugin.conftest import NewProject, Project, Run, Verb

pytestmark = pytest.mark.slow

HERE = "--environment=plain"
GOOD = "def load():\n    pass\n"
WORDY = "import sys\ndef load():\n    print('wobbling', file=sys.stderr)\n"
BENT = "raise ImportError('no name')\n"
FLAKY = """
import pathlib, sys
def load():
    mark = pathlib.Path(__file__).with_name('mark')
    if not mark.exists():
        print('wobbling', file=sys.stderr)
    mark.touch()
"""
RELEASES = {"1.0": GOOD, "1.1": WORDY, "1.2": BENT, "1.3": GOOD, "1.4": FLAKY}
TABLE = """\
rows:
  - id: wordy
    link: https://example.org/wordy
    shows: it wobbles aloud
    faulty: {wobble: "1.1"}
    fixed: {wobble: "1.0"}
    cells: ["../../specs/quiet.yaml::quiet[plain-plain]"]
    expected: {check: stderr}
"""


@pytest.fixture(scope="module")
def project(new_project: NewProject) -> Project:
    """A project that has one release of the library installed, and wheels of all."""
    project = new_project()
    for version, text in RELEASES.items():
        make_wheel(project.root / "wheels", version, text)
    unpack(project, project.root / "site")
    before = os.environ.get("PYTHONPATH", "")
    project.variables["PYTHONPATH"] = os.pathsep.join([str(project.root / "site"), before])
    project.variables["PIP_NO_INDEX"] = "1"
    project.variables["PIP_FIND_LINKS"] = str(project.root / "wheels")
    project.spec(
        "quiet",
        "lean_on_wobble",
        "markers: [smoke]\nstderr: {forbidden_patterns: [wobbling]}\n",
    )
    project.spec("steady", "lean_on_wobble", "markers: [smoke]\n")
    project.spec("other", "lean_on_wobble")
    project.write("conf/regressions/table.yaml", TABLE)
    return project


@pytest.fixture(scope="module")
def broken(project: Project) -> Run:
    """An upgrade to a release that breaks a cell."""
    return project.tunematrix(
        "upgrade", HERE, "wobble==1.1", "--json", "--write=new.txt", "--markdown=page.md"
    )


def unpack(project: Project, folder: Path) -> None:
    """Install the first release into a folder."""
    (wheel,) = (project.root / "wheels").glob("wobble-1.0-*.whl")
    zipfile.ZipFile(wheel).extractall(folder)


def _json(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run.text[run.text.index("{") : run.text.rindex("}") + 1])
    return found


def test_what_breaks(project: Project, broken: Run) -> None:
    """Of the smoke cells, the one whose check fails; the known fault that is entered; code 1."""
    found = _json(broken)
    assert {one["id"]: one["turn"] for one in found["items"]} == {
        "quiet[plain-plain]": "broken",
        "steady[plain-plain]": "same",
    }
    assert found["versions"] == [{"name": "wobble", "before": "1.0", "after": "1.1"}]
    assert [one["link"] for one in found["faults"]["entered"]] == ["https://example.org/wordy"]
    assert broken.code == 1 and not found["safe"]
    assert "https://example.org/wordy" in (project.root / "page.md").read_text()
    assert "tunematrix bisect 'quiet[plain-plain]' -e plain --bad wobble==1.1" in broken.text


def test_what_is_not_safe_is_not_written(project: Project, broken: Run) -> None:
    """Pins that break something would be taken for good."""
    assert not (project.root / "new.txt").exists()
    assert "new.txt wasn't written, since the upgrade isn't safe" in broken.text


def test_what_is_known_is_not_run_again(project: Project, broken: Run) -> None:
    """Neither side is; a terminal is told the same."""
    run = project.tunematrix("upgrade", HERE, "wobble==1.1")
    assert "as it is: 0 to run, 2 known" in run.text
    assert "upgraded: 0 to run, 2 known" in run.text
    assert "✗ quiet[plain-plain]: ✓ passed → ✗ failed" in run.text
    assert "not safe: 1 broken or lost, 1 known fault entered" in run.text
    assert run.code == 1


def test_the_newest_is_safe(project: Project, broken: Run) -> None:
    """It is looked for, tried beside what is known, and its pins are written."""
    run = project.tunematrix("upgrade", HERE, "wobble<1.4", "--write=new.txt")
    assert "as it is: 0 to run, 2 known" in run.text
    assert "wobble 1.0 → 1.3" in run.text
    assert "safe: nothing that worked breaks" in run.text
    assert run.code == 0
    assert "wobble==1.3" in (project.root / "new.txt").read_text().splitlines()


@pytest.mark.nightly
def test_a_release_that_cannot_be_imported(project: Project, broken: Run) -> None:
    """Breaks what leans on it; other arguments choose what is tried."""
    run = project.tunematrix("upgrade", HERE, "wobble==1.2", "specs/other.yaml", "--json")
    assert {one["id"]: one["turn"] for one in _json(run)["items"]} == {
        "other[plain-plain]": "broken"
    }
    assert run.code == 1


@pytest.mark.nightly
def test_one_that_fails_now_and_then(project: Project, broken: Run) -> None:
    """What is broken is run once more, and told as flaky if it works then; that isn't safe."""
    run = project.tunematrix("upgrade", HERE, "wobble==1.4", "specs/quiet.yaml")
    assert "broken: 1 to run once more" in run.text
    assert "± quiet[plain-plain]: ✓ passed → ✗ failed" in run.text
    assert "not safe: 1 flaky, failing in one run and not in the next" in run.text
    assert run.code == 1
    again = project.tunematrix("upgrade", HERE, "wobble==1.4", "specs/quiet.yaml")
    assert "1 flaky" in again.text and "once more" not in again.text


@pytest.mark.nightly
def test_versions_of_the_users_own(project: Project, tmp_path: Path) -> None:
    """Their Python is the old side, and nothing is written to it; a row of the table names it."""
    python = theirs(tmp_path / "venv")
    (packages,) = tmp_path.glob("venv/lib/python3.*/site-packages")
    unpack(project, packages)
    before = files(tmp_path / "venv")
    row = f'[tool.tunematrix.environments.mine]\nbackends = ["plain"]\ninterpreter = "{python}"\n'
    text = (project.root / "pyproject.toml").read_text()
    project.write("pyproject.toml", text + row)
    command = [sys.executable, "-m", "tunematrix", "upgrade", "-e", "mine", "wobble==1.1", "--json"]
    run = project.run(command, PIP_NO_INDEX="0")  # tunematrix itself is built
    assert {one["id"]: one["turn"] for one in _json(run)["items"]} == {
        "quiet[plain-plain]": "broken",
        "steady[plain-plain]": "same",
    }
    assert "Your versions" in run.text and run.code == 1
    assert files(tmp_path / "venv") == before


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["wobble==1.0"], 5, "plain has them already, so nothing changes"),
        (["wobble=1"], 4, "wobble=1: is no package"),
        (["wobble[all]"], 4, "wobble[all]: takes no address, marker or extra"),
        (["specs/none.yaml"], 4, "specs/none.yaml: is no package"),
        (["-k", "q", "wobble==1.1"], 4, "write tunematrix upgrade wobble==1.1 -k q"),
        (["--lock=none.txt"], 4, "none.txt: can't be read"),
    ],
)
def test_what_cannot_be_done(
    project: Project,
    verb: Verb,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    """Is an error before anything runs, with what to do about it."""
    monkeypatch.syspath_prepend(project.root / "site")
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.setenv(name, project.variables[name])
    ended, text = verb(project, "upgrade", HERE, *arguments)
    assert said in text
    assert ended == code


@pytest.mark.each_time(1)
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["-m", "smoek"], 4, "smoek is not a marker; did you mean smoke?"),
        (["-k", "nothing"], 5, "these arguments choose no cell"),
    ],
)
def test_what_pytest_cannot_choose(
    project: Project, arguments: list[str], code: int, said: str
) -> None:
    """Is told in pytest's words, or that nothing is left to compare."""
    run = project.tunematrix("upgrade", HERE, "wobble==1.1", *arguments)
    assert said in run.text
    assert run.code == code


def test_an_index_that_cannot_be_reached_keeps_its_secret(project: Project) -> None:
    """The reason is uv's, its address without what stands before the @."""
    index = {"PIP_NO_INDEX": "0", "PIP_INDEX_URL": "http://me:s3cr3t-word@127.0.0.1:9/simple"}
    command = [sys.executable, "-m", "tunematrix", "upgrade", HERE, "wobble==7"]
    run = project.run(command, **index)
    assert run.code == 6 and "127.0.0.1" in run.text
    assert "s3cr3t" not in run.text


def test_packages_stand_before_what_pytest_gets() -> None:
    """The first option, node or file ends them."""
    from tunematrix.cli.upgrade import split_arguments

    here = str(Path(__file__))
    for rest in (["-k", "lora"], ["a.yaml::lora[cpu]"], [here, "-x"]):
        assert split_arguments(["trl", "peft==0.21.2", *rest]) == (["trl", "peft==0.21.2"], rest)
    assert split_arguments([]) == ([], [])
    assert split_arguments(["trl"]) == (["trl"], [])
