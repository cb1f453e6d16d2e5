from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.unit.environments import packing

from tunematrix.environments.origin import Origin
from tunematrix.environments.table import YOURS, Environment, find_environment, read_environments
from tunematrix.environments.yours import Ready, Yours, prepare, yours
from tunematrix.errors import BadInput

pytestmark = pytest.mark.skipif(not packing.has_uv(), reason="uv is not here; nox[uv] brings it")

ROW = Environment("cpu-yours", "", ("cpu",), variant=YOURS)
NEEDS = ("alpha>=1", "pytest>=8")
SEEN = (
    "import alpha, gamma, json, pytest, sys; print(json.dumps([alpha.__version__, gamma.__file__, \
pytest.__version__, sys.pycache_prefix]))"
)


@dataclass
class User:
    """Somebody with a virtualenv, and a folder of wheels in place of an index.

    Attributes:
        folder: all of it. said: what was said. warned: warnings.
    """

    folder: Path
    said: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)

    def wheel(self, name: str, version: str, *needs: str) -> Path:
        """Put a wheel into the index."""
        return packing.wheel(self.folder / "wheels", name, version, needs)

    def python(self, *wheels: tuple[str, str]) -> Path:
        """Make the virtualenv that the user trains with; return its Python."""
        packed = [packing.wheel(self.folder / "own", *one) for one in wheels]
        return packing.virtualenv(self.folder / "venv", *packed)

    def order(self, python: Path, needs: Sequence[str] = NEEDS, lock: Path | None = None) -> Yours:
        """Order a run by a tunematrix that needs something."""
        root = self.folder / "checkout"
        known = root.exists()
        package = root / "src" / "tunematrix" if known else packing.checkout(root, *needs)
        return Yours(ROW, self.folder / "state", python, lock, Origin(package))

    def prepare(self, order: Yours) -> Ready:
        """Prepare it, and listen."""
        return prepare(order, self.said.append, self.warned.append)

    def files(self) -> dict[str, tuple[int, int, bytes]]:
        """Every file of the virtualenv: its size, when it was written, and what is in it."""
        paths = [path for path in (self.folder / "venv").rglob("*") if not path.is_dir()]
        stats = {str(path): path.lstat() for path in paths}
        return {p: (s.st_size, s.st_mtime_ns, Path(p).read_bytes()) for p, s in stats.items()}


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> User:
    """A user whose index has what the suite needs."""
    for name in ("PIP_CONFIG_FILE", "UV_FIND_LINKS", "UV_INDEX", "UV_DEFAULT_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))  # wheels of one name differ here
    found = User(tmp_path)
    found.wheel("alpha", "1.0", "gamma>=1")
    found.wheel("alpha", "2.0", "gamma>=2")
    found.wheel("gamma", "1.0")
    found.wheel("gamma", "2.0")
    found.wheel("pytest", "9.0")
    return found


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
    command = [ready.python, "-c", "import alpha, pytest; print(alpha.__version__)"]
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


def test_a_lock(user: User) -> None:
    """It gives a set of its own, just what it names; once."""
    user.wheel("torch", "2.13.0", "gamma")
    lock = user.folder / "requirements.txt"
    lock.write_text("torch==2.13.0\ngamma==1.0\n", encoding="utf-8")
    order = user.order(packing.virtualenv(user.folder / "venv"), lock=lock)
    user.prepare(order)
    assert [line for line in user.said if line.startswith("Your versions (2 packages")]
    assert not [line for line in user.said if line.startswith("Not pinned")]
    user.said.clear()
    user.prepare(order)
    assert not [line for line in user.said if line.startswith("Installing")]
    lock.write_text("torch==2.13.0\n", encoding="utf-8")
    user.prepare(order)
    assert any("so uv chose: gamma 2.0" in line for line in user.said)


@pytest.mark.parametrize(
    "text",
    [
        "torch==2.13.0\ngamma==1.0\n",
        "Torch == 2.13.0  # why\ngamma===1.0 ; python_version > '3'\n",
        "-r more.txt\ntorch==2.13.0\n",
        "--requirement=more.txt\ntorch==2.13.0\n",
        "torch\ngamma\n-c all.txt\n",
        "torch==2.13.0\ngamma @ {wheel}\n",
    ],
)
def test_ways_to_pin(user: User, text: str) -> None:
    """Whichever way a lock names versions, none of it counts as left open."""
    user.wheel("torch", "2.13.0", "gamma")
    address = (user.folder / "wheels" / "gamma-1.0-py3-none-any.whl").as_uri()
    (user.folder / "more.txt").write_text("gamma==1.0\n", encoding="utf-8")
    (user.folder / "all.txt").write_text("gamma==1.0\ntorch==2.13.0\n", encoding="utf-8")
    lock = user.folder / "requirements.txt"
    lock.write_text(text.format(wheel=address), encoding="utf-8")
    user.prepare(user.order(packing.virtualenv(user.folder / "venv"), lock=lock))
    assert not [line for line in user.said if line.startswith("Not pinned")]


PYLOCK = """lock-version = "1.0"
created-by = "someone"
requires-python = ">=3.99"
packages = []
"""


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("requirements.txt", "gamma==9\n", "gamma==9"),
        ("requirements.txt", "alpha==2.0\ngamma==1.0\n", "gamma>=2"),
        ("requirements.txt", f"gamma==1.0 --hash=sha256:{'0' * 64}\n", "ash"),
        ("requirements.txt", "--index-url http://127.0.0.1:9/\nnowhere==1\n", "nowhere"),
        ("requirements.txt", "this is [no lock\n", "parse"),
        ("requirements.txt", "gamma==1.0\n", "has no torch"),
        ("pylock.toml", PYLOCK, ">=3.99"),
        ("pylock.toml", "packages = 7\n", "pylock.toml"),
        ("uv.lock", "nonsense", "uv.lock"),
    ],
)
def test_a_wrong_lock(
    user: User, name: str, text: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uv's reason, then which lock and which Python, and what to do."""
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    lock = user.folder / name
    lock.write_text(text, encoding="utf-8")
    python = packing.virtualenv(user.folder / "venv")
    with pytest.raises(BadInput) as told:
        user.prepare(user.order(python, lock=lock))
    assert words in str(told.value)
    assert name in str(told.value)


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
    assert yours(rows["mine"], tmp_path).extras == ("torch", "hqq", "quanto", "mlx", "serving")
    assert yours(rows["venv"], tmp_path).python == Path("/v/bin/python")
    found = find_environment("cpu-yours", rows)
    assert (found.base, found.variant, found.requires) == ("cpu", "yours", ())
    (tmp_path / "pyproject.toml").write_text(f"{table}packages = ['more']\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"venv\.packages: nothing is installed"):
        read_environments(tmp_path, [])
    with pytest.raises(BadInput, match="nobody-yours is not an environment"):
        find_environment("nobody-yours", rows)
