from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunematrix.paths import files_below, project_root, shipped_configs, shown


def test_shipped_configs_are_there() -> None:
    """The config groups that come with the package are found, root config included."""
    assert (shipped_configs() / "cell.yaml").is_file()


def test_project_root_is_the_nearest_above(tmp_path: Path) -> None:
    """The nearest folder with a pyproject.toml wins, the start itself included."""
    inner = tmp_path / "inner"
    (inner / "deep").mkdir(parents=True)
    (tmp_path / "pyproject.toml").touch()
    assert project_root(inner / "deep") == tmp_path
    (inner / "pyproject.toml").touch()
    assert project_root(inner / "deep") == inner
    assert project_root(inner) == inner


def test_project_root_without_a_project(tmp_path: Path) -> None:
    """Where no pyproject.toml is, the start is the root."""
    assert project_root(tmp_path) == tmp_path


def test_paths_are_shown_as_a_reader_would_type_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below the working directory a path is relative, elsewhere absolute."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert shown(Path("a/b.yaml")) == "a/b.yaml"
    assert shown(tmp_path / "here" / "b.yaml") == "b.yaml"
    assert shown(tmp_path / "b.yaml") == str(tmp_path / "b.yaml")


def test_files_below_a_folder(tmp_path: Path) -> None:
    """All of them; no virtualenv's, none behind a link, and none that the caller leaves out."""
    names = ["b.txt", "a/z.txt", "a/.hidden/b.txt", "x.egg-info/b.txt", "run/out/b.txt"]
    for name in [*names, "env/pyvenv.cfg", "env/lib/b.py", "env.txt"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a/up").symlink_to(tmp_path)

    def found(*arguments: Any) -> list[str]:
        return [str(file.relative_to(tmp_path)) for file in files_below(tmp_path, *arguments)]

    assert found()[:2] == ["b.txt", "env.txt"]
    assert set(found()) == {*names, "env.txt"}
    assert found((".*", "*.egg-info"), lambda folder: (folder / "out").is_dir()) == [
        "b.txt",
        "env.txt",
        "a/z.txt",
    ]
