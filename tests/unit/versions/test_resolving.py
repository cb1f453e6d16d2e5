from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.versions.conftest import Wheel

from tunematrix.errors import BadInput, MachineProblem
from tunematrix.versions.asked import AsItIs, ByLock, ByPins
from tunematrix.versions.resolving import NoSuchSet, resolved
from tunematrix.versions.sets import Beneath, PackageSet

BELOW = Beneath(
    PackageSet({"wobble": "1.1", "pytest": "9.0", "torch": "2.13.0+cpu"}),
    fixed=frozenset({"pytest"}),
    roots=("wobble",),
)
PYLOCK = """
lock-version = "1.0"
[[packages]]
name = "Wobble"
version = "1.0"
[[packages]]
name = "pytest"
version = "8.0"
[[packages]]
name = "elsewhere"
version = "1.0"
marker = "sys_platform == 'win32'"
[[packages]]
name = "torch"
version = "{torch}"
[[packages]]
name = "nvidia-nccl-cu12"
version = "2.0"
"""


def _lock(tmp_path: Path, text: str, name: str = "pylock.toml") -> ByLock:
    (tmp_path / name).write_text(text)
    return ByLock(tmp_path / name)


def test_as_it_is() -> None:
    """Nothing is resolved, and nothing differs."""
    found = resolved(AsItIs(), BELOW, "cpu")
    assert found.over(BELOW.packages) == {}


def test_pins(wheel: Wheel) -> None:
    """What is pinned moves, the rest of the environment stays."""
    wheel("1.0")
    wheel("1.1")
    below = Beneath(PackageSet({"wobble": "1.1", "pytest": "9.0"}), BELOW.fixed, BELOW.roots)
    found = resolved(ByPins({"wobble": "1.0"}), below, "wobble==1.0")
    assert found.over(below.packages) == {"wobble": "1.0"}
    assert found.versions["pytest"] == "9.0"
    assert found.digest != below.packages.digest


def test_no_such_release(wheel: Wheel) -> None:
    """The resolver's reason is told, and also alone, in a line."""
    wheel("1.0")
    below = Beneath(PackageSet({"pytest": "9.0"}), BELOW.fixed, ())
    with pytest.raises(NoSuchSet, match=r"wobble==3: uv pip compile failed") as got:
        resolved(ByPins({"wobble": "3"}), below, "wobble==3")
    assert "\n" not in got.value.reason and "wobble==3" in got.value.reason


def test_what_tunematrix_runs_on_stays() -> None:
    """It can't be asked for in another version; in a lock it is passed over."""
    with pytest.raises(NoSuchSet, match="tunematrix itself runs on pytest"):
        resolved(ByPins({"pytest": "8.0"}), BELOW, "pytest==8.0")


def test_a_lock(tmp_path: Path) -> None:
    """What it has for this platform counts; a build of the same PyTorch is the environment's."""
    found = resolved(_lock(tmp_path, PYLOCK.format(torch="2.13.0")), BELOW, "pylock.toml")
    assert found.over(BELOW.packages) == {"wobble": "1.0"}


def test_a_lock_with_another_torch(tmp_path: Path) -> None:
    """Then that counts, with all that it brings."""
    found = resolved(_lock(tmp_path, PYLOCK.format(torch="2.9.1")), BELOW, "pylock.toml")
    moved = {"wobble": "1.0", "torch": "2.9.1", "nvidia-nccl-cu12": "2.0"}
    assert found.over(BELOW.packages) == moved


def test_requirements(tmp_path: Path, wheel: Wheel) -> None:
    """Of requirements, uv chooses what they leave open."""
    wheel("1.0")
    found = resolved(_lock(tmp_path, "wobble<1.1\n", "requirements.txt"), BELOW, "it")
    assert found.over(BELOW.packages) == {"wobble": "1.0"}


def test_a_lock_whose_index_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the machine's matter, not the lock's."""
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.delenv("PIP_NO_INDEX", raising=False)
    lock = _lock(tmp_path, "--index-url http://127.0.0.1:9/simple\nwobble\n", "requirements.txt")
    with pytest.raises(MachineProblem, match=r"can't be reached[^$]*127\.0\.0\.1:9"):
        resolved(lock, BELOW, "it")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("pylock.toml", "[[packages]\n", "is no pylock.toml"),
        ("pylock.toml", "[project]\n", "is no pylock.toml"),
        ("pylock.toml", "packages = []\n", "names no version"),
        ("pylock.toml", 'requires-python = ">=3.99"\npackages = []\n', r"is for Python >=3\.99"),
        ("uv.lock", 'version = 1\nrequires-python = "<3.9"\n', r"is for Python <3\.9, and this"),
        ("requirements.txt", "wobble==9.9\n", r"wobble==9\.9"),
        ("requirements.txt", "== what\n", "Correct .*requirements.txt"),
    ],
)
@pytest.mark.usefixtures("wheel")
def test_locks_that_cannot_be_read(tmp_path: Path, name: str, text: str, message: str) -> None:
    """Each is bad input, with what to do."""
    with pytest.raises(BadInput, match=message):
        resolved(_lock(tmp_path, text, name), BELOW, name)
