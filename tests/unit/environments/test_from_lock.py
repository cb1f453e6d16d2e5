from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.environments import packing
from tests.unit.environments.packing import User

from tunematrix.environments import uv
from tunematrix.environments.interpreter import look_at
from tunematrix.errors import BadInput, TunematrixError

pytestmark = pytest.mark.skipif(not packing.has_uv(), reason="uv is not here; nox[uv] brings it")


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


@pytest.mark.each_time(3)
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


@pytest.mark.parametrize("kind", ["requirements.txt", "pylock.toml", "uv.lock"])
def test_kinds_of_locks(user: User, kind: str) -> None:
    """With hashes, each gives its set, and stays as it is; the project itself is no part of it."""
    user.wheel("torch", "2.13.0", "gamma")
    project = user.folder / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[project]\nname = "mine"\nversion = "1"\nrequires-python = ">=3.11"\n'
        'dependencies = ["torch"]\n[dependency-groups]\ndev = ["gamma<2"]\n',
        encoding="utf-8",
    )
    wheels = f"--find-links={user.folder / 'wheels'}"
    made = {
        "uv.lock": ["lock", wheels],
        "pylock.toml": ["export", wheels, "--no-emit-project", "--output-file=pylock.toml"],
        "requirements.txt": [
            "export",
            wheels,
            "--no-emit-project",
            "--output-file=requirements.txt",
        ],
    }
    command = [uv.program(), *made[kind], "--no-index", "--quiet", f"--directory={project}"]
    subprocess.run(command, check=True)
    before = {path: path.read_bytes() for path in project.iterdir()}
    user.prepare(user.order(packing.virtualenv(user.folder / "venv"), lock=project / kind))
    there = look_at(user.folder / "state" / "set" / "bin" / "python").packages
    assert there == {"torch": "2.13.0", "gamma": "1.0"}
    assert not [line for line in user.said if line.startswith("Not pinned")]
    assert {path: path.read_bytes() for path in project.iterdir()} == before


def test_a_lock_with_an_index_for_one_package(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many have torch: no setting here names that index, nor may others come from it."""
    project, more = user.folder / "project", user.folder / "more"
    packing.wheel(more, "torch", "2.13.0+own")
    packing.wheel(more, "gamma", "1.0", text="another = True\n")
    project.mkdir()
    flat = '[[tool.uv.index]]\nname = "{0}"\nurl = "{1}"\nformat = "flat"\n{2} = true\n'
    (project / "pyproject.toml").write_text(
        '[project]\nname = "mine"\nversion = "1"\nrequires-python = ">=3.11"\n'
        'dependencies = ["torch", "gamma<2"]\n[tool.uv.sources]\ntorch = { index = "own" }\n'
        f"{flat.format('own', more, 'explicit')}"
        f"{flat.format('main', user.folder / 'wheels', 'default')}",
        encoding="utf-8",
    )
    subprocess.run([uv.program(), "lock", "--quiet", f"--directory={project}"], check=True)
    order = user.order(packing.virtualenv(user.folder / "venv"), lock=project / "uv.lock")
    with pytest.raises(BadInput, match="torch was not found"):
        user.prepare(order)  # no index may be asked here, and so not that one either
    (user.folder / "empty").mkdir()
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", (user.folder / "empty").as_uri())
    user.prepare(order)
    found = user.folder / "state" / "set" / "bin" / "python"
    assert look_at(found).packages == {"torch": "2.13.0+own", "gamma": "1.0"}
    subprocess.run([found, "-c", "import gamma; gamma.__version__"], check=True)


def test_parts_of_a_lock(user: User) -> None:
    """Groups and extras come along where they are named; of requirements there are none."""
    user.wheel("torch", "2.13.0")
    project = user.folder / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[project]\nname = "mine"\nversion = "1"\nrequires-python = ">=3.11"\n'
        'dependencies = ["torch"]\n[project.optional-dependencies]\nfast = ["gamma<2"]\n'
        '[dependency-groups]\ntrain = ["alpha<2"]\n',
        encoding="utf-8",
    )
    wheels = f"--find-links={user.folder / 'wheels'}"
    command = [uv.program(), "lock", wheels, "--no-index", "--quiet", f"--directory={project}"]
    subprocess.run(command, check=True)
    order = user.order(packing.virtualenv(user.folder / "venv"), lock=project / "uv.lock")
    found = user.folder / "state" / "set" / "bin" / "python"
    for parts, more in (((), set()), (("--extra=fast", "--group=train"), {"alpha", "gamma"})):
        user.prepare(replace(order, parts=parts))
        assert set(look_at(found).packages) == {"torch", *more}
    with pytest.raises(BadInput, match="`nowhere`"):
        user.prepare(replace(order, parts=("--group=nowhere",)))
    plain = user.folder / "requirements.txt"
    plain.write_text("torch==2.13.0\n", encoding="utf-8")
    with pytest.raises(BadInput, match="has neither groups nor extras, so --group=train names"):
        user.prepare(replace(order, lock=plain, parts=("--group=train",)))


def test_no_word_of_a_password(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in what is said of an index that can't be reached, nor of a file on it."""
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.delenv("PIP_NO_INDEX")
    python = packing.virtualenv(user.folder / "venv")
    address = "http://me:s3cr3t@127.0.0.1:9"
    for text in (f"--index-url {address}/simple\ntorch==1\n", f"torch @ {address}/torch-1.zip\n"):
        lock = user.folder / "requirements.txt"
        lock.write_text(text, encoding="utf-8")
        with pytest.raises(TunematrixError) as told:
            user.prepare(user.order(python, lock=lock))
        assert "127.0.0.1" in str(told.value) and "s3cr3t" not in str(told.value)
        if "index" in text:
            assert (told.value.exit_code, "can't be reached" in str(told.value)) == (6, True)


def test_a_full_disk() -> None:
    """As uv and pip quote the system; a path with that number in it is none."""
    assert uv.is_full("cause: failed to copy file from a to b: No space left (os error 28)")
    assert uv.is_full("OSError: [Errno 28] No space left on device: 'a' -> 'b'")
    assert not uv.is_full("cause: Failed to copy to `/data/error 28/pygments`: os error 280")


def test_last_words_are_few() -> None:
    """Whatever an installer quotes, such as a line of a file of 100 MB, its end is short."""
    assert uv.last_words("error: a\n\n  cause: b\n") == "error: a\ncause: b"
    said = uv.last_words(f"error: {'x' * 100_000}\n" * 100)
    assert len(said) < 10_000 and "…" in said


@pytest.mark.parametrize("what", ["folder", "pipe", "device"])
def test_a_lock_that_is_no_file(user: User, what: str) -> None:
    """A pipe isn't waited for, and a device that never ends isn't read."""
    lock = Path("/dev/zero") if what == "device" else user.folder / "lock.txt"
    if what == "folder":
        lock.mkdir()
    if what == "pipe":
        os.mkfifo(lock)
    with pytest.raises(BadInput, match="is no file, but a folder, a pipe or a device"):
        user.prepare(user.order(packing.virtualenv(user.folder / "venv"), lock=lock))


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
        ("requirements.txt", "this is [no lock\n", "parse"),
        ("requirements.txt", "gamma==1.0\n", "has no torch"),
        ("pylock.toml", PYLOCK, ">=3.99"),
        ("pylock.toml", "packages = 7\n", "pylock.toml"),
        ("requirements.txt", "gamma==1.0 ; sys_platform == 'win32'\n", "names no package for this"),
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


def test_a_damaged_lock_of_a_project(user: User) -> None:
    """What can't be read is said once, and no index is asked for what it names."""
    (user.folder / "pyproject.toml").write_text('[project]\nname = "mine"\nversion = "0"\n')
    lock = user.folder / "uv.lock"
    lock.write_text('version = 1\nrequires-python = ">=3.8"\n[[package]]\nname = "gamma"\n')
    python = packing.virtualenv(user.folder / "venv")
    with pytest.raises(BadInput, match=r"uv\.lock is damaged.*`uv lock` writes it anew") as told:
        user.prepare(user.order(python, lock=lock))
    assert str(told.value).count("Failed to parse") == 1
    assert "index" not in str(told.value)
