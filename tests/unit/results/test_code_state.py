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
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *identity, *command], cwd=root, check=True)
    return root


def test_code_as_committed(repository: Path) -> None:
    """Its commit and no more, from a folder in it as well; elsewhere nothing is known."""
    facts = code_state(repository, [])
    assert set(facts) == {"commit"} and len(facts["commit"]) == 12
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
    assert set(code_state(repository, besides)) == {"commit"}
    assert "changes" in code_state(repository, besides[:1])
