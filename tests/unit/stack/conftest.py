"""Checkpoints of an adapter and of a whole model, trained once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.unit.stack.saved import adapted, base, trainer


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Train an adapter and a whole model for two steps, once."""
    folders = {}
    for kind, model in (("adapter", adapted()), ("model", base())):
        folders[kind] = tmp_path_factory.mktemp(kind)
        trainer(model, folders[kind]).train()
    return folders


@pytest.fixture
def out(trained: dict[str, Path], tmp_path: Path) -> Path:
    """Return a copy of what was saved of the adapter, to be damaged."""
    return Path(shutil.copytree(trained["adapter"], tmp_path / "out"))
