"""What options need, and what of it isn't here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tunematrix.configuration.declarations import BuildTools
from tunematrix.errors import Obstacle
from tunematrix.matrix.groups import Groups, read_groups
from tunematrix.matrix.requirements import Lack, build_tools, first_lack, importable


@pytest.fixture(autouse=True)
def no_compiler_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs these tests may compile with something else."""
    monkeypatch.delenv("CXX", raising=False)


def read(root: Path, **options: str) -> Groups:
    """Config groups with one option on each axis."""
    lines = "".join(f"  - {axis}: one\n" for axis in options)
    (root / "cell.yaml").write_text(f"defaults:\n{lines}  - _self_\n")
    for axis, text in options.items():
        (root / axis).mkdir()
        (root / axis / "one.yaml").write_text(f"name: one\n{text}\n")
    return read_groups([root])


@pytest.mark.parametrize(
    ("module", "there"),
    [
        ("json", True),
        ("email.mime.text", True),
        ("no_such_module", False),
        ("no_such_parent.child", False),
        ("json.no_child", False),
    ],
)
def test_importable(module: str, there: bool) -> None:
    """A module is looked for, and not imported."""
    assert importable(module) is there


def test_first_lack(tmp_path: Path) -> None:
    """All modules of the first option that lacks any, with its own command."""
    groups = read(
        tmp_path,
        backend="requires: [json]",
        quantizer="requires: [no_such_a, json, no_such_b]\ninstall: pip install x",
    )
    lack = first_lack({"backend": "one", "quantizer": "one"}, groups)
    assert lack == Lack("quantizer", "one", ("no_such_a", "no_such_b"), "pip install x")
    assert lack.obstacle == Obstacle(
        "the modules no_such_a, no_such_b",
        "quantizer one needs no_such_a, no_such_b",
        "install it with: pip install x",
    )
    assert first_lack({"backend": "one"}, groups) is None


def test_without_a_command_the_session_installs_it(tmp_path: Path) -> None:
    """Each backend has one."""
    lack = first_lack({"backend": "one"}, read(tmp_path, backend="requires: [no_such_a]"))
    assert lack is not None
    assert lack.install == "nox -s one"


def test_tools_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command, and a header of this Python; what isn't here is named all the same."""
    tool = tmp_path / "no-such-c++"
    wanted = BuildTools(compiler=tool.name, tools=("no-such-ninja",), headers=("no_such.h",))
    monkeypatch.setenv("PATH", str(tmp_path))
    absent = dict.fromkeys(("no-such-c++", "no-such-ninja", "no_such.h"))
    assert build_tools(wanted) == absent
    tool.touch(mode=0o755)
    assert build_tools(wanted) == {**absent, tool.name: str(tool)}


def test_tools_of_the_virtualenv(monkeypatch: pytest.MonkeyPatch) -> None:
    """They count even where the virtualenv isn't on PATH."""
    monkeypatch.setenv("PATH", "/nowhere")
    python = Path(sys.executable).name
    assert build_tools(BuildTools(tools=(python,))) == {python: sys.executable}


def test_the_compiler_that_is_named_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """In CXX, with options behind it or not; an option that compiles nothing needs none."""
    monkeypatch.setenv("CXX", "no-such-clang++ -O2")
    assert build_tools(BuildTools(compiler="c++")) == {"no-such-clang++": None}
    assert build_tools(BuildTools()) == {}
