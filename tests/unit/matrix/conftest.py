from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.matrix.related import SMALL

from tunematrix.matrix.groups import Groups, read_groups
from tunematrix.paths import shipped_configs
from tunematrix.spec import Spec, load_specs


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in the test's own folder, so that messages show paths relative to it."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def shipped() -> Groups:
    """The config groups that come with tunematrix."""
    return read_groups([shipped_configs()])


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], Spec]:
    """Return a function that loads a spec called `a` of the recipe sft, with more lines."""

    def write_and_load(text: str = "") -> Spec:
        file = tmp_path / "spec.yaml"
        file.write_text(f"test_id: a\nrecipe: sft\n{text}\n", encoding="utf-8")
        return load_specs([file])[0]

    return write_and_load


@pytest.fixture
def make_root(tmp_path: Path) -> Callable[[dict[str, str], str], Path]:
    """Return a function that makes a config folder from file names and contents."""

    def write(files: dict[str, str], name: str = "root") -> Path:
        root = tmp_path / name
        root.mkdir()
        for file, text in files.items():
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text(text, encoding="utf-8")
        return root

    return write


@pytest.fixture
def small(make_root: Callable[..., Path]) -> Groups:
    """Config groups with one exclusion, and a quantizer that isn't at home on mlx."""
    return read_groups([make_root(SMALL)])
