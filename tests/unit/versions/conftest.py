"""Wheels of a small library, made here, and a machine that installs from nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.environments import packing

Wheel = Callable[..., None]


def make_wheel(folder: Path, version: str, text: str) -> None:
    """Write a wheel of the library `wobble`, whose one module is `text`."""
    packing.wheel(folder, "wobble", version, text=text)


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
