from __future__ import annotations

import os
from pathlib import Path

import pytest

from tunematrix.errors import BadInput
from tunematrix.versions.room import bounded, in_use, is_full, limit

KB = 1000
BIG = 400 * KB


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Three overlays of 400 kB each, of which a was used last."""
    for age, name in enumerate("abc"):
        folder = tmp_path / "overlays" / name
        folder.mkdir(parents=True)
        (folder / "module.py").write_bytes(bytes(BIG))
        os.utime(folder, (1000 - age, 1000 - age))
    return tmp_path / "overlays"


def _names(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.is_dir())


def test_within_the_limit(cache: Path) -> None:
    """Nothing is removed, and what there is is told."""
    taken = bounded(cache, 2000 * KB)
    assert _names(cache) == ["a", "b", "c"]
    assert (taken.count, taken.removed, taken.shared) == (3, 0, 0)
    assert 1200 * KB <= taken.size < 1250 * KB


def test_what_was_used_longest_ago_goes(cache: Path) -> None:
    """As many go as have to, and half a folder is never left under its name."""
    taken = bounded(cache, 900 * KB)
    assert _names(cache) == ["a", "b"]
    assert taken.removed == 1 and "1 not used for longest removed" in str(taken)


def test_what_is_in_use_stays(cache: Path) -> None:
    """An overlay that a process uses isn't removed, however small the limit; nor is the newest."""
    with in_use(cache / "c"):
        os.utime(cache / "c", (1, 1))
        bounded(cache, 1)
    assert _names(cache) == ["a", "c"]


def test_use_counts(cache: Path) -> None:
    """One that was used now is the last to go."""
    with in_use(cache / "c"):
        pass
    bounded(cache, 500 * KB)
    assert _names(cache) == ["c"]


def test_what_is_shared_counts_once(cache: Path) -> None:
    """A file that two overlays have by a hard link takes its space once."""
    (cache / "b" / "module.py").unlink()
    (cache / "b" / "module.py").hardlink_to(cache / "a" / "module.py")
    taken = bounded(cache, 2000 * KB)
    assert 800 * KB <= taken.size < 850 * KB
    assert 400 * KB <= taken.shared < 420 * KB


def test_half_made_ones_do_not_count(cache: Path) -> None:
    """What is being made isn't measured, and isn't removed."""
    (cache / "d.unfinished").mkdir()
    assert bounded(cache, 1).count == 1
    assert _names(cache) == ["a", "d.unfinished"]


def test_the_limit(tmp_path: Path) -> None:
    """pyproject.toml may set it, in gigabytes; what is no size is refused with its place."""
    file = tmp_path / "pyproject.toml"
    assert limit(tmp_path) == 20e9
    file.write_text("[tool.tunematrix]\noverlays_gb = 2.5\n")
    assert limit(tmp_path) == 2.5e9
    for wrong in ("0", "-1", '"20 GB"', "true"):
        file.write_text(f"[tool.tunematrix]\noverlays_gb = {wrong}\n")
        with pytest.raises(BadInput, match=r"overlays_gb.* is no size; write a number"):
            limit(tmp_path)


def test_a_full_disk(tmp_path: Path) -> None:
    """uv's and pip's words for it are known; anything else is the package's fault."""
    assert is_full(tmp_path, "failed to write: No space left on device (os error 28)")
    assert is_full(tmp_path, "OSError: [Errno 28] No space left on device")
    assert not is_full(tmp_path, "no version of wobble==9.9")
