from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from tunematrix.environments.locks import (
    held_back,
    mismatch,
    pinned,
    requirements,
    resolving,
    seal,
)
from tunematrix.environments.table import read_environments
from tunematrix.errors import BadInput
from tunematrix.paths import project_root

ROOT = project_root(Path(__file__).parent)
ROWS = [row for row in read_environments(ROOT, []).values() if row.variant == "locked"]
LOCKS = {row.constraints: row.extras for row in ROWS} | {"constraints/dev.txt": ()}

PYPROJECT = """
[project]
name = "mine"
requires-python = ">=3.11"
dependencies = ["rich>=14"]
[project.optional-dependencies]
torch = ["torch>=2.13"]
hqq = ["mine[torch]", "hqq>=0.2"]
mlx = ["mlx>=0.32"]
[[tool.tunematrix.held_back]]
requirement = "torch==2.13.0"
reason = "a wheel"
link = "https://e.org"
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with one lock that fits."""
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "a.in").write_text("# pinned by hand\nhqq==0.2.8  # here\n")
    (tmp_path / "a.txt").write_text(f"# nox -s lock  {seal(tmp_path, tmp_path / 'a.txt', ['hqq'])}")
    return tmp_path


@pytest.mark.parametrize("lock", LOCKS)
def test_the_committed_locks_fit(lock: str) -> None:
    """Each was compiled from what pyproject.toml and its .in have now."""
    assert mismatch(ROOT, ROOT / lock, LOCKS[lock]) is None


def test_the_committed_locks_agree() -> None:
    """A distribution has one version in all of them, so that environments can be compared."""
    pins = {lock: pinned((ROOT / lock).read_text()) for lock in LOCKS}
    apart = {
        f"{name}: {a} {b}"
        for a, b in combinations(pins, 2)
        for name in pins[a].keys() & pins[b].keys()
        if pins[a][name].partition(" ;")[0] != pins[b][name].partition(" ;")[0]
    }
    assert not apart


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("pyproject.toml", "rich>=14", "rich>=15"),
        ("pyproject.toml", "hqq>=0.2", "hqq>=0.3"),
        ("pyproject.toml", "torch>=2.13", "torch>=2.14"),
        ("pyproject.toml", ">=3.11", ">=3.12"),
        ("pyproject.toml", "torch==2.13.0", "torch==2.14.0"),
        ("a.in", "0.2.8", "0.2.9"),
    ],
)
def test_other_inputs_another_seal(root: Path, file: str, old: str, new: str) -> None:
    """Whatever a lock is compiled from, a change of it is noticed, and what to do is said."""
    assert mismatch(root, root / "a.txt", ["hqq"]) is None
    text = (root / file).read_text()
    assert old in text
    (root / file).write_text(text.replace(old, new))
    wrong = mismatch(root, root / "a.txt", ["hqq"])
    assert wrong is not None
    assert "a.txt was compiled from other requirements than pyproject.toml and " in wrong
    assert wrong.endswith("a.in now have; run nox -s lock")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [("pyproject.toml", "mlx>=0.32", "mlx>=0.33"), ("a.in", "by hand", "by me")],
)
def test_what_a_lock_is_not_compiled_from(root: Path, file: str, old: str, new: str) -> None:
    """An extra that it doesn't hold and a comment leave it as it is."""
    (root / file).write_text((root / file).read_text().replace(old, new))
    assert mismatch(root, root / "a.txt", ["hqq"]) is None


def test_a_lock_that_is_missing(root: Path) -> None:
    """It is asked for by name."""
    (root / "b.in").touch()
    assert str(mismatch(root, root / "b.txt", [])).endswith("b.txt isn't there; run nox -s lock")


def test_requirements_follow_the_projects_own_extras(root: Path) -> None:
    """An extra that asks for another brings it along."""
    assert requirements(root, ["hqq"]) == ["rich>=14", "hqq>=0.2", "torch>=2.13"]
    assert requirements(root, []) == ["rich>=14"]


def test_held_back_says_why(root: Path) -> None:
    """A pin without a reason and a link is refused."""
    assert [entry.requirement for entry in held_back(root)] == ["torch==2.13.0"]
    file = root / "pyproject.toml"
    file.write_text(file.read_text().replace('reason = "a wheel"\n', ""))
    with pytest.raises(BadInput, match=r"held_back: .* must have exactly link, reason, req"):
        held_back(root)


def test_resolving_takes_all_inputs(root: Path, tmp_path: Path) -> None:
    """uv is given the pins by hand, the extras, what is held back, and the lowest Python."""
    command = resolving(root, "constraints/a.txt", ["hqq"], tmp_path)
    (behind,) = [part.removeprefix("-c=") for part in command if part.startswith("-c=")]
    assert Path(behind).read_text() == "torch==2.13.0"
    assert {"pyproject.toml", "constraints/a.in", "--extra=hqq"} <= set(command)
    assert "--python-version=3.11" in command


def test_pins_of_a_lock() -> None:
    """Names as PyPI compares them; markers and several versions are kept, comments aren't."""
    lock = (
        "# header\nnumpy==2.4.6 ; python_full_version < '3.12'  # via hqq\n"
        "numpy==2.5.5 ; python_full_version >= '3.12'  # via hqq\nJaraco.Text==4.0    # via x\n"
    )
    assert pinned(lock) == {
        "numpy": "numpy==2.4.6 ; python_full_version < '3.12'\n"
        "numpy==2.5.5 ; python_full_version >= '3.12'",
        "jaraco-text": "Jaraco.Text==4.0",
    }
