from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from tests.unit.environments import packing
from tests.unit.environments.packing import User

from tunematrix.environments.table import find_environment, read_environments
from tunematrix.environments.yours import yours
from tunematrix.errors import BadInput

pytestmark = pytest.mark.skipif(not packing.has_uv(), reason="uv is not here; nox[uv] brings it")

FOUND = "[alpha.__version__, gamma.__file__, pytest.__version__, sys.pycache_prefix]"
SEEN = f"import alpha, gamma, json, pytest, sys; print(json.dumps({FOUND}))"


def test_what_is_lacking_comes_apart(user: User) -> None:
    """The user's versions stay, are found first, and choose those of the rest."""
    python = user.python(("torch", "2.13.0"), ("gamma", "1.0"))
    order = user.order(python)
    before = user.files()
    ready = user.prepare(order)
    env = {**os.environ, **ready.variables}
    command = [str(ready.python), "-c", SEEN]
    variables = {name: text for name, text in env.items() if text is not None}
    answer = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    alpha, gamma, pytest_, prefix = json.loads(answer.stdout)
    assert (alpha, pytest_) == ("1.0", "9.0")
    assert Path(gamma).is_relative_to(user.folder / "venv")
    assert Path(prefix) == order.folder / "pycache"
    assert list((order.folder / "pycache").rglob("gamma*.pyc"))
    assert user.files() == before
    assert user.said[0].endswith("torch 2.13.0")
    assert user.said[1].endswith("added: alpha 1.0, pytest 9.0")
    assert user.warned == []
    # Once more, it is there; another version in the user's set, and it is made again.
    (user.folder / "wheels" / "pytest-9.0-py3-none-any.whl").unlink()
    assert user.prepare(order) == ready
    (packages,) = (user.folder / "venv").glob("lib/python3.*/site-packages")
    (packages / "gamma-1.0.dist-info").rename(packages / "gamma-2.0.dist-info")
    metadata = packages / "gamma-2.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("1.0", "2.0", 1).replace("n: 1.0", "n: 2.0"))
    with pytest.raises(BadInput, match="pytest"):
        user.prepare(order)


def test_a_module_of_another_distribution(user: User) -> None:
    """What the user's set imports under a name stays so, though its distribution is lacking."""
    python = user.python(("torch", "2.13.0"), ("gamma", "1.0"))
    (packages,) = (user.folder / "venv").glob("lib/python3.*/site-packages")
    (packages / "alpha.py").write_text("__version__ = 'a fork'\n", encoding="utf-8")
    ready = user.prepare(user.order(python))
    command = [str(ready.python), "-c", "import alpha, pytest; print(alpha.__version__)"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout == "a fork\n"


def test_a_whole_set_needs_nothing(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all is there, no index is asked; a virtualenv may be read-only."""
    monkeypatch.setenv("PIP_FIND_LINKS", str(user.folder / "empty"))
    (user.folder / "empty").mkdir()
    had = [("torch", "2.13.0+vendor"), ("alpha", "3.0"), ("pytest", "8.4"), ("gamma", "1.0")]
    python = user.python(*had)
    (packages,) = (user.folder / "venv").glob("lib/python3.*/site-packages")
    packages.chmod(0o555)
    user.prepare(user.order(python))
    assert user.said[1].endswith("added: nothing")


def test_older_than_what_was_tried(user: User) -> None:
    """It is said, and run all the same."""
    user.prepare(user.order(user.python(("torch", "2.9.0"), ("gamma", "1.0"))))
    (warning,) = user.warned
    assert warning.startswith("torch 2.9.0 is not what tunematrix was tried with (torch>=2.13)")


@pytest.mark.parametrize(
    ("had", "words"),
    [
        ((("gamma", "1.0"),), ["has no torch", "of packages, there are 1"]),
        ((("torch", "2.13"), ("pytest", "7.0")), ["tunematrix needs pytest>=8, and 7.0 is there"]),
        ((("torch", "2.13"), ("gamma", "0.5")), ["gamma==0.5", "alpha", "gamma>=1"]),
    ],
)
def test_what_cannot_be(user: User, had: tuple[tuple[str, str], ...], words: list[str]) -> None:
    """The package and the bound are named."""
    with pytest.raises(BadInput) as told:
        user.prepare(user.order(user.python(*had)))
    for word in words:
        assert word in str(told.value)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("nowhere", None, "can't be run"),
        (".", None, "is a folder; name the Python in it"),
        ("other", "#!/bin/sh\necho hello\n", "is no Python that works"),
        ("broken", "#!/bin/sh\necho no libpython >&2; exit 1\n", "no libpython"),
        ("old", "#!/bin/sh\necho '{\"version\": [3, 9]}'\n", "Python 3.9, and tunematrix needs"),
    ],
)
def test_no_python(user: User, name: str, text: str | None, words: str) -> None:
    """What was named, and what to name instead."""
    path = user.folder / name
    if text is not None:
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
    with pytest.raises(BadInput, match=words):
        user.prepare(user.order(path))


def test_a_row_of_the_table(tmp_path: Path) -> None:
    """Its paths begin at pyproject.toml; it has no variants. Others have theirs by its name."""
    table = "[tool.tunematrix.environments.mine]\nbackends = ['mlx']\nlock = 'uv.lock'\n"
    table += (
        "[tool.tunematrix.environments.venv]\nbackends = ['cpu']\ninterpreter = '/v/bin/python'\n"
    )
    (tmp_path / "pyproject.toml").write_text(table, encoding="utf-8")
    rows = read_environments(tmp_path, [])
    assert [name for name in rows if name.startswith(("mine", "venv"))] == ["mine", "venv"]
    assert yours(rows["mine"], tmp_path).lock == tmp_path / "uv.lock"
    extras = ("torch", "hqq", "quanto", "mlx", "serving", "fleet")
    assert yours(rows["mine"], tmp_path).extras == extras
    assert yours(rows["venv"], tmp_path).python == Path("/v/bin/python")
    found = find_environment("cpu-yours", rows)
    assert (found.base, found.variant, found.requires) == ("cpu", "yours", ())
    (tmp_path / "pyproject.toml").write_text(f"{table}packages = ['more']\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"venv\.packages: nothing is installed"):
        read_environments(tmp_path, [])
    with pytest.raises(BadInput, match="nobody-yours is not an environment"):
        find_environment("nobody-yours", rows)
