"""A user, for the tests of what they have."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.environments.packing import User


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
