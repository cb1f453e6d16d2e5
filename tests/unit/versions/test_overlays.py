from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.versions.conftest import Wheel

from tunematrix.versions.damage import damage
from tunematrix.versions.overlays import NotInstalled, digest, overlay, paths, told

ONE = {"wobble": "1.0"}


def test_what_is_pinned_comes_first(tmp_path: Path, wheel: Wheel) -> None:
    """A process with an overlay imports its release, and its metadata say so."""
    wheel("1.0", "KIND = 'old'\n")
    folder = overlay(ONE, tmp_path / "cache", lambda _: None)
    code = "import importlib.metadata as m, wobble; print(wobble.KIND, m.version('wobble'))"
    environment = {**os.environ, **paths(folder, {})}
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert ended.stdout.split() == ["old", "1.0"]


def test_it_is_made_once(tmp_path: Path, wheel: Wheel) -> None:
    """The second time nothing is installed: the wheel may be gone."""
    wheel("1.0")
    said: list[str] = []
    first = overlay(ONE, tmp_path / "cache", said.append)
    shutil.rmtree(tmp_path / "wheels")
    assert overlay(ONE, tmp_path / "cache", said.append) == first
    assert said == ["installing wobble 1.0"]


def test_what_was_interrupted_is_repaired(tmp_path: Path, wheel: Wheel) -> None:
    """A half-made folder is made anew, and what lay in it is gone."""
    wheel("1.0", "KIND = 'whole'\n")
    draft = tmp_path / "cache" / f"{digest(ONE)}.unfinished"
    draft.mkdir(parents=True)
    (draft / "wobble.py").write_text("KIND = 'half'")
    (draft / "rest.py").write_text("")
    folder = overlay(ONE, tmp_path / "cache", lambda _: None)
    assert (folder / "wobble.py").read_text() == "KIND = 'whole'\n"
    assert not (folder / "rest.py").exists() and not draft.exists()


@pytest.mark.parametrize("what", ["package", "file", "length", "content", "metadata", "list"])
def test_what_was_damaged_is_repaired(what: str, tmp_path: Path, wheel: Wheel) -> None:
    """A package, a file or its end that is gone is noticed: else the environment's would run."""
    wheel("1.0", "KIND = 'whole'\n")
    said: list[str] = []
    folder = overlay(ONE, tmp_path / "cache", said.append)
    module, metadata = folder / "wobble.py", folder / "wobble-1.0.dist-info"
    if what == "length":
        module.unlink()  # it may be linked to the installer's cache
        module.write_text("KIND =")
    elif what == "content":
        before = module.stat()
        module.unlink()
        module.write_text("KIND = 'wolfe'\n")
        os.utime(module, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert module.stat().st_size == before.st_size
    elif what in ("package", "file"):
        module.unlink()
    elif what == "metadata":
        shutil.rmtree(metadata)
    else:
        (metadata / "RECORD").unlink()
    if what == "package":
        shutil.rmtree(metadata)
    assert overlay(ONE, tmp_path / "cache", said.append) == folder
    assert module.read_text() == "KIND = 'whole'\n"
    assert len(said) == 3 and "is damaged (" in said[1]


def test_a_damaged_cache(tmp_path: Path, wheel: Wheel) -> None:
    """What was installed and isn't whole is refused, not run."""
    wheel("1.0", "KIND = 'whole'\n")
    folder = overlay(ONE, tmp_path / "cache", lambda _: None)
    assert not damage(ONE, folder)
    assert damage({"wobble": "1.1"}, folder) == "wobble is 1.0 in place of 1.1"


def test_authorities_of_a_company(tmp_path: Path) -> None:
    """Certificates that a machine adds are no damage; without any, there is some."""
    metadata = tmp_path / "certifi-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: certifi\nVersion: 1.0")
    (metadata / "RECORD").write_text("certifi/cacert.pem,sha256=x,3\ncertifi/core.py,sha256=x,3\n")
    (tmp_path / "certifi").mkdir()
    (tmp_path / "certifi/core.py").write_text("more")
    assert damage({"certifi": "1.0"}, tmp_path) == "certifi/cacert.pem isn't there"
    (tmp_path / "certifi/cacert.pem").write_text("as it was, and another")
    assert damage({"certifi": "1.0"}, tmp_path) == "certifi/core.py is of another length"


def test_two_packages_with_one_file(tmp_path: Path) -> None:
    """Packages that bring the same file, each its own, are no damage."""
    (tmp_path / "shared.py").write_text("12345")
    digest = hashlib.sha256(b"12345").digest()
    known = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    for name, size, content in (("one", 5, known), ("two", 9, "x")):
        metadata = tmp_path / f"{name}-1.0+cpu.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0+cpu")
        (metadata / "RECORD").write_text(
            f"shared.py,sha256={content},{size}\n../bin/run,sha256=x,3\n"
        )
    assert not damage({"one": "1.0", "two": "1.0"}, tmp_path)
    (tmp_path / "shared.py").write_text("54321")
    assert damage({"one": "1.0"}, tmp_path) == "shared.py isn't as its package says"
    (tmp_path / "shared.py").write_text("123")
    assert damage({"one": "1.0"}, tmp_path) == "shared.py is of another length"


def test_what_is_no_damage(tmp_path: Path, wheel: Wheel) -> None:
    """Bytecode, another link to a file, a file that was touched, and one of nobody's."""
    wheel("1.0", "KIND = 'whole'\n")
    said: list[str] = []
    folder = overlay(ONE, tmp_path / "cache", said.append)
    (folder / "__pycache__").mkdir(exist_ok=True)
    (folder / "__pycache__/wobble.cpython-311.pyc").write_bytes(b"bytecode")
    with (folder / "wobble-1.0.dist-info/RECORD").open("a") as record:
        record.write("__pycache__/wobble.cpython-311.pyc,sha256=x,3\n")
    (tmp_path / "link").hardlink_to(folder / "wobble.py")
    (folder / "wobble.py").touch()
    (folder / "more.py").touch()
    assert overlay(ONE, tmp_path / "cache", said.append) == folder
    assert said == ["installing wobble 1.0"]


def test_what_nobody_has(tmp_path: Path, wheel: Wheel) -> None:
    """The reason is the installer's own, and no folder is left that looks like an overlay."""
    wheel("1.0")
    with pytest.raises(NotInstalled, match=r"wobble==9\.9"):
        overlay({"wobble": "9.9"}, tmp_path / "cache", lambda _: None)
    assert not (tmp_path / "cache" / digest({"wobble": "9.9"})).exists()


def test_neither_uv_nor_pip(tmp_path: Path, wheel: Wheel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can install, it says what to get."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    with pytest.raises(NotInstalled, match="neither uv nor pip"):
        overlay(ONE, tmp_path / "cache", lambda _: None)


def test_names() -> None:
    """One overlay whatever the order and the spelling of names, another for another release."""
    assert digest({"a_b": "1", "c": "2"}) == digest({"c": "2", "A-B": "1"})
    assert digest(ONE) != digest({"wobble": "1.1"})


def test_told() -> None:
    """Of many releases those that matter are named."""
    assert told({"urllib3": "2", "trl": "0.13.0"}) == "trl 0.13.0 and 1 more"
    assert told({}) == ""
