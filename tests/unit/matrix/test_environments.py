from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tunematrix.errors import BadInput
from tunematrix.matrix.environments import Environment, find_environment, read_environments
from tunematrix.paths import shipped_configs

MakeRoot = Callable[..., Path]

ROW = "[tool.tunematrix.environments.cpu]\n"


def read(tmp_path: Path, text: str) -> dict[str, Environment]:
    """Read the environments of a pyproject.toml with this text."""
    (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
    return dict(read_environments(tmp_path, [shipped_configs()]))


def test_all_of_a_row(tmp_path: Path) -> None:
    """A row becomes an environment; what only Nox needs stays behind."""
    environments = read(
        tmp_path,
        ROW + 'description = "PyTorch on the CPU"\nbackends = ["cpu"]\nextras = ["torch", "hqq"]\n'
        'requires = ["hqq"]\nconstraints = "constraints/cpu.txt"\n'
        'platforms = ["x86_64-manylinux_2_28"]\ntorch_index = "https://e.org"\n',
    )
    assert environments == {
        "cpu": Environment(
            name="cpu",
            description="PyTorch on the CPU",
            backends=("cpu",),
            requires=("hqq",),
            extras=("torch", "hqq"),
            constraints="constraints/cpu.txt",
        )
    }


def test_the_projects_own_table() -> None:
    """The table of this repository is read, and its one backend has a config."""
    here = Path(__file__).parent
    environments = read_environments(here, [shipped_configs()])
    assert environments["cpu"].backends == ("cpu",)


def test_found_from_below(tmp_path: Path) -> None:
    """The table counts for every folder of the project."""
    read(tmp_path, ROW + 'backends = ["cpu"]\n')
    (tmp_path / "deep" / "er").mkdir(parents=True)
    assert list(read_environments(tmp_path / "deep" / "er", [])) == ["cpu"]


@pytest.mark.parametrize("text", [None, "", "[project]\nname = 'x'\n"])
def test_without_a_table_each_backend_is_one(
    tmp_path: Path, make_root: MakeRoot, text: str | None
) -> None:
    """A project that says nothing gets an environment for each backend there is a config for."""
    if text is not None:
        (tmp_path / "pyproject.toml").write_text(text)
    roots = [make_root({"backend/cpu.yaml": "", "backend/cuda.yaml": ""})]
    roots.append(make_root({"backend/mine.yaml": ""}, "own"))
    environments = read_environments(tmp_path, roots)
    assert list(environments) == ["cpu", "cuda", "mine"]
    assert environments["mine"].backends == ("mine",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ROW + 'backend = ["cpu"]\n', "cpu.backend: is not a known key; did you mean backends"),
        (ROW + 'backends = "cpu"\n', "cpu.backends: expected a list of texts, got 'cpu'; write ["),
        (ROW + "backends = [1]\n", "cpu.backends: expected a list of texts, got [1]"),
        (ROW + "backends = []\n", "cpu.backends: names no backend, so nothing could run; add one"),
        (ROW, "cpu.backends: names no backend, so nothing could run; add one"),
        (ROW + 'backends = ["cpu"]\nconstraints = 3\n', "cpu.constraints: expected text, got 3"),
        ("[tool.tunematrix.environments]\ncpu = 3\n", "cpu: is not a table; write [tool.tunemat"),
        ("[tool.tunematrix.environments]\n", "environments: holds no environment; add one or re"),
        ("[tool\n", "can't be read: "),
    ],
)
def test_wrong_tables(tmp_path: Path, text: str, expected: str) -> None:
    """A mistake in the table is told with file and key, so that `requires` is never lost."""
    with pytest.raises(BadInput) as caught:
        read(tmp_path, text)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(str(tmp_path.name)) or "pyproject.toml: " in lines[0]
    assert expected in str(caught.value)


def test_unknown_environment() -> None:
    """An environment that isn't there is refused with close matches."""
    known = {name: Environment(name, "", (name,)) for name in ("cpu", "cuda")}
    assert find_environment("cpu", known).name == "cpu"
    with pytest.raises(BadInput, match=r"cuba is not an environment; did you mean cuda"):
        find_environment("cuba", known)
    with pytest.raises(BadInput, match=r"zzz is not an environment; it can be cpu, cuda"):
        find_environment("zzz", known)


def test_reading_takes_the_standard_library_alone() -> None:
    """The table can be read where pydantic and PyYAML aren't installed."""
    code = (
        "import sys, tunematrix.matrix.environments\n"
        "print(sorted({'pydantic', 'yaml', 'hydra', 'torch'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
