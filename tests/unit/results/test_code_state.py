from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tunematrix.results.code_state import code_state


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit."""
    root = tmp_path / "project"
    (root / "src").mkdir(parents=True)
    (root / "src/a.py").write_text("one")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    _commit(root)
    return root


def _commit(root: Path) -> None:
    for command in (["add", "."], ["commit", "-qm", "some"]):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *identity, *command], cwd=root, check=True)


def test_code_as_committed(repository: Path) -> None:
    """Its commit and no more, from a folder in it as well; elsewhere nothing is known."""
    facts = code_state(repository, [])
    assert set(facts) == {"commit", "code"} and len(facts["commit"]) == 12
    assert code_state(repository / "src", []) == facts
    assert code_state(repository.parent, []) == {}


def test_code_that_changed(repository: Path) -> None:
    """The same change is the same; another one, a new file and a removed one are others."""
    seen = [code_state(repository, [])]
    for text in ("two", "three", "two"):
        (repository / "src/a.py").write_text(text)
        seen.append(code_state(repository, []))
    (repository / "src/b 'ö\n.py").write_text("new")
    seen.append(code_state(repository, []))
    (repository / "src/a.py").unlink()
    seen.append(code_state(repository, []))
    assert len({one.get("changes") for one in seen}) == 5
    assert seen[1] == seen[3] and len({one["commit"] for one in seen}) == 1


def test_what_is_no_code(repository: Path) -> None:
    """What a run leaves, and the baselines, may lie beside it uncommitted."""
    for folder in ("state", "conf/baselines"):
        (repository / folder).mkdir(parents=True)
        (repository / folder / "a.yaml").write_text("new")
    besides = [repository / "state", repository / "conf/baselines"]
    assert code_state(repository, besides) == code_state(repository, besides[::-1])
    assert set(code_state(repository, besides)) == {"commit", "code"}
    assert "changes" in code_state(repository, besides[:1])


@pytest.mark.parametrize("name", ["docs/a.yaml", "README.md", "tests/test_a.py"])
def test_what_no_result_depends_on(repository: Path, name: str) -> None:
    """A page or a test may change, committed or not, and the code is still the same."""
    before = code_state(repository, [])
    (repository / name).parent.mkdir(exist_ok=True)
    (repository / name).write_text("new")
    changed = code_state(repository, [])
    _commit(repository)
    committed = code_state(repository, [])
    assert before["code"] == changed["code"] == committed["code"]
    assert "changes" in changed and committed["commit"] != before["commit"]


@pytest.mark.parametrize("name", ["src/a.py", "src/b ö.md", "tests/conftest.py", "c.yaml"])
def test_what_results_depend_on(repository: Path, name: str) -> None:
    """What else changes is other code; the same once it is committed, and without it as before."""
    before = code_state(repository, [])["code"]
    (repository / name).parent.mkdir(exist_ok=True)
    (repository / name).write_text("new")
    changed = code_state(repository, [])["code"]
    _commit(repository)
    assert before != changed == code_state(repository, [])["code"]
    (repository / name).unlink()
    assert (code_state(repository, [])["code"] == before) is (name != "src/a.py")


def test_a_link(repository: Path) -> None:
    """One is told by where it leads, committed or not."""
    (repository / "b.py").symlink_to("src/a.py")
    changed = code_state(repository, [])["code"]
    _commit(repository)
    assert changed == code_state(repository, [])["code"]
