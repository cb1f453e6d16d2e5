"""Wheels of a small library, made here, and what finds releases in histories that are made up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.environments import packing
from tests.unit.versions.histories import DAYS, CellOfOne, History

from tunematrix.versions import apart, between
from tunematrix.versions.bisecting import bisect
from tunematrix.versions.found import Bisection

Wheel = Callable[..., None]
FindAll = Callable[..., list[Bisection]]


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


@pytest.fixture
def find_all(monkeypatch: pytest.MonkeyPatch) -> FindAll:
    """Bisects a history between its first day and its last one, with its own installer."""

    def found(
        history: History, judge: CellOfOne, good: int = 0, bad: int = DAYS
    ) -> list[Bisection]:
        monkeypatch.setattr(between, "solve", history.solve)
        monkeypatch.setattr(apart, "solve", history.solve)
        return [*bisect(history.end(good), history.end(bad), judge, history.index)]

    return found
