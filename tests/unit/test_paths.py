from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tunematrix
from tunematrix.errors import BadInput
from tunematrix.paths import (
    files_below,
    project_root,
    pytest_file,
    pytest_settings,
    shipped_configs,
    shown,
    unwritable,
)


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tunematrix_specs = 1", "pyproject.toml:2: tunematrix_specs: expected a list of folders"),
        ("tunematrix_specs = [1]", ":2: tunematrix_specs: expected a list of folders; write tun"),
        ("tunematrix_configs = [[]]", ":2: tunematrix_configs: expected a list of folders; wri"),
        ('tunematrix_specs = ["a\\u0000b"]', ":2: tunematrix_specs: expected a list of folders"),
        (f"tunematrix_specs = {'9' * 5000}", "pyproject.toml: can't be read: "),
        (f"x = {'[' * 5000}", "pyproject.toml: can't be read: "),
    ],
)
def test_settings_of_a_wrong_kind(tmp_path: Path, text: str, expected: str) -> None:
    """They are told with file and line; of other tools' settings, those tools speak."""
    (tmp_path / "pyproject.toml").write_text(f"[tool.pytest.ini_options]\n{text}\nminversion = 9\n")
    with pytest.raises(BadInput) as caught:
        pytest_settings(tmp_path)
    assert expected in str(caught.value)


@pytest.mark.parametrize("text", ["tool = 1", "[tool]\npytest = 1", "[tool.pytest]\nini_options=1"])
def test_tables_that_are_none(tmp_path: Path, text: str) -> None:
    """Wherever on the way to our own."""
    (tmp_path / "pyproject.toml").write_text(f"{text}\n")
    with pytest.raises(BadInput, match="is no table; write "):
        pytest_settings(tmp_path)


def test_pytests_settings_where_there_is_no_pytest(tmp_path: Path) -> None:
    """As beside Nox, which reads them to know which environments there are."""
    (tmp_path / "pytest.toml").touch()
    source = Path(tunematrix.__file__).parents[1]
    program = (
        f"import sys; sys.path.insert(0, {str(source)!r})\n"
        "from pathlib import Path; from tunematrix.paths import pytest_file\n"
        f"print(pytest_file(Path({str(tmp_path)!r})))"
    )
    command = [sys.executable, "-I", "-S", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.strip() == str(tmp_path / "pytest.toml"), done.stderr


@pytest.mark.parametrize("name", ["pytest.toml", ".pytest.toml"])
def test_a_file_of_pytests_own(tmp_path: Path, name: str) -> None:
    """It hides what pyproject.toml says, as it does for pytest, even if nothing is in it."""
    hidden = "[tool.pytest.ini_options]\ntunematrix_specs = ['a']\n"
    (tmp_path / "pyproject.toml").write_text(hidden)
    (tmp_path / name).touch()
    assert pytest_file(tmp_path) == tmp_path / name and pytest_settings(tmp_path) == {}
    (tmp_path / name).write_text("[pytest]\ntunematrix_specs = ['b']\n")
    assert pytest_settings(tmp_path) == {"tunematrix_specs": ["b"]}
    (tmp_path / name).write_text("[pytest]\ntunematrix_specs = 1\n")
    with pytest.raises(BadInput, match=f"{name}:2: tunematrix_specs: expected a list of folders"):
        pytest_settings(tmp_path)
    (tmp_path / name).write_text("pytest = 1\n")
    with pytest.raises(BadInput, match="pytest is no table; write "):
        pytest_settings(tmp_path)


def test_settings_in_lines(tmp_path: Path) -> None:
    """As pytest takes them, too: a text of several lines."""
    text = '[tool.pytest.ini_options]\ntunematrix_specs = "a\\nb"\n'
    (tmp_path / "pyproject.toml").write_text(text)
    assert pytest_settings(tmp_path) == {"tunematrix_specs": ["a", "b"]}


def test_what_keeps_a_run_from_writing(tmp_path: Path) -> None:
    """It isn't always the disk."""
    many = OSError(errno.EMFILE, "Too many open files")
    assert "ulimit -n 1024" in str(unwritable(tmp_path, many))
    assert "TMPDIR is too long" in str(unwritable(tmp_path, OSError("AF_UNIX path too long")))
    full = OSError(errno.ENOSPC, "No space left on device")
    assert str(unwritable(tmp_path, full)).startswith(f"can't write to {tmp_path}: ")
