"""How many cells a machine, or a container on it, has room for."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tunematrix.run.local.room import places


def container(folder: Path, cpu: str, memory: str, current: str = "0") -> Path:
    """A folder that says what the kernel says in a container."""
    for name, text in (("cpu.max", cpu), ("memory.max", memory), ("memory.current", current)):
        (folder / name).write_text(f"{text}\n")
    return folder


def test_without_a_container(tmp_path: Path) -> None:
    """By the cores that there are, and by the memory that is free."""
    assert 1 <= places(1e-6, tmp_path) <= (psutil.cpu_count() or 1)
    assert places(1e9, tmp_path) == 1


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (("100000 100000", "max"), 1),
        (("max 100000", "2000000", "1900000"), 1),
        (("max 100000", "1000000", "2000000"), 1),
    ],
)
def test_in_a_container(tmp_path: Path, limits: tuple[str, ...], expected: int) -> None:
    """Its limits count where they are the narrower ones; over its limit, one runs all the same."""
    assert places(1e-4, container(tmp_path, *limits)) == expected


def test_a_container_without_limits(tmp_path: Path) -> None:
    """Has the room of its machine."""
    free = places(1e-6, tmp_path)
    assert places(1e-6, container(tmp_path, "max 100000", "max")) == free
