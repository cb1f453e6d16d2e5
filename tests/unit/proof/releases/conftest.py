"""Wheels of a small library, made here, and a machine that installs from nowhere else."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

Wheel = Callable[..., None]


def make_wheel(folder: Path, version: str, text: str) -> None:
    """Write a wheel of the library `wobble`, whose one module is `text`."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"wobble-{version}.dist-info"
    with zipfile.ZipFile(folder / f"wobble-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("wobble.py", text)
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: wobble\nVersion: {version}\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wheel:
    """Makes a wheel where pip and uv look, and no index is asked."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.delenv("UV_FIND_LINKS", raising=False)

    def make(version: str, text: str = "") -> None:
        make_wheel(folder, version, text)

    return make
