from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tunematrix.environments.host import Probe
from tunematrix.environments.table import Environment, find_environment, read_environments
from tunematrix.errors import BadInput
from tunematrix.paths import shipped_configs

TABLE = "[tool.tunematrix.environments]\n"
ROW = "[tool.tunematrix.environments.pc]\n"
HOST = f'{ROW}backends = ["cpu"]\n[tool.tunematrix.environments.pc.host]\n'


def read(tmp_path: Path, text: str) -> dict[str, Environment]:
    """Read the environments of a pyproject.toml with this text."""
    (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
    return dict(read_environments(tmp_path, [shipped_configs()]))


def test_all_of_a_row(tmp_path: Path) -> None:
    """Every key of a row and of its host probe becomes a field."""
    environments = read(
        tmp_path,
        ROW + 'description = "PyTorch on the CPU"\nbackends = ["cpu"]\nextras = ["torch", "hqq"]\n'
        'requires = ["hqq"]\nconstraints = "constraints/cpu.txt"\npython = ">=3.11,<3.15"\n'
        'platforms = ["x86_64-manylinux_2_28"]\ntorch_index = "https://e.org/cpu"\n'
        '[tool.tunematrix.environments.pc.host]\nlooking_for = "a PC"\nadvice = "buy one"\n'
        'machines = ["linux x86_64"]\nminimum_glibc = "2.28"\n'
        'minimum_macos = "14.0"\nany_of = ["cc"]\ncommand = ["cc", "-v"]\nproof = "gcc"\n',
    )
    assert environments["pc"] == Environment(
        name="pc",
        description="PyTorch on the CPU",
        backends=("cpu",),
        requires=("hqq",),
        extras=("torch", "hqq"),
        constraints=str(tmp_path / "constraints/cpu.txt"),
        platforms=("x86_64-manylinux_2_28",),
        python=">=3.11,<3.15",
        torch_index="https://e.org/cpu",
        host=Probe(
            looking_for="a PC",
            advice="buy one",
            machines=("linux x86_64",),
            minimum_glibc="2.28",
            minimum_macos="14.0",
            any_of=("cc",),
            command=("cc", "-v"),
            proof="gcc",
        ),
    )


def test_variants_follow_their_environment(tmp_path: Path) -> None:
    """Each row brings two more environments, alike but for the versions they take."""
    text = TABLE + "shipped = []\n" + ROW + 'backends = ["cpu"]\nextras = ["torch"]\n'
    environments = read(tmp_path, text)
    assert [(each.name, each.base, each.variant) for each in environments.values()] == [
        ("pc", "pc", "locked"),
        ("pc-lowest", "pc", "lowest"),
        ("pc-latest", "pc", "latest"),
    ]
    assert {each.extras for each in environments.values()} == {("torch",)}
    assert find_environment("pc-latest", environments).variant == "latest"


@pytest.mark.parametrize(
    ("python", "version", "admitted"),
    [
        (">=3.11,<3.15", (3, 10), False),
        (">=3.11,<3.15", (3, 11), True),
        (">=3.11,<3.15", (3, 14), True),
        (">=3.11,<3.15", (3, 15), False),
        ("", (3, 20), True),
    ],
)
def test_which_pythons(python: str, version: tuple[int, int], admitted: bool) -> None:
    """The lower bound is admitted, the upper isn't."""
    assert Environment("cpu", "", ("cpu",), python=python).admits(version) is admitted


def test_the_projects_own_table() -> None:
    """The table of this repository is read; each of its four names its backends."""
    environments = read_environments(Path(__file__).parent, [shipped_configs()])
    locked = {row.name: row.backends for row in environments.values() if row.variant == "locked"}
    assert locked == {
        "cpu": ("cpu",),
        "cuda": ("cuda",),
        "mps": ("mps", "mlx"),
        "mlx": ("mlx",),
    }


def test_found_from_below(tmp_path: Path) -> None:
    """The table counts for every folder of the project."""
    read(tmp_path, ROW + 'backends = ["cpu"]\n')
    (tmp_path / "deep" / "er").mkdir(parents=True)
    assert "pc" in read_environments(tmp_path / "deep" / "er", [])


@pytest.mark.parametrize("text", [None, "", "[project]\nname = 'x'\n"])
def test_without_a_table(tmp_path: Path, text: str | None) -> None:
    """A project that says nothing has what comes with tunematrix, and each backend beyond it."""
    if text is not None:
        (tmp_path / "pyproject.toml").write_text(text)
    for file in ("root/backend/cpu.yaml", "root/backend/cuda.yaml", "own/backend/mine.yaml"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    environments = read_environments(tmp_path, [tmp_path / "root", tmp_path / "own"])
    locked = [name for name, row in environments.items() if row.variant == "locked"]
    assert locked == ["cpu", "cuda", "mps", "mlx", "mine"]
    assert environments["mine"].backends == ("mine",)
    assert Path(environments["cpu"].constraints).is_file()


def test_some_of_the_shipped(tmp_path: Path) -> None:
    """The project chooses; a backend that it left out is no environment by another way."""
    environments = read(tmp_path, TABLE + 'shipped = ["mlx", "cpu"]\n')
    assert list(environments)[::3] == ["mlx", "cpu"]
    assert set(environments) == {
        f"{n}{v}" for n in ("mlx", "cpu") for v in ("", "-lowest", "-latest")
    }


def test_a_row_of_the_projects_own(tmp_path: Path) -> None:
    """It changes what it names of a shipped environment, of its host as well, or adds one."""
    row = "[tool.tunematrix.environments.cpu]\n"
    host = '[tool.tunematrix.environments.cpu.host]\nadvice = "ask Kim"\n'
    other = ROW + 'backends = ["cpu"]\n'
    text = row + 'constraints = "own.txt"\nrequires = ["hqq"]\n' + host + other
    environments = read(tmp_path, text)
    shipped = read(tmp_path, "")["cpu"]
    own = environments["cpu"]
    assert own.constraints == str(tmp_path / "own.txt")
    assert own.requires == ("hqq",)
    assert own.host.advice == "ask Kim"
    assert (own.extras, own.host.machines) == (shipped.extras, shipped.host.machines)
    assert "pc" in environments
    assert environments["mlx"] == read(tmp_path, "")["mlx"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ROW + 'backend = ["cpu"]\n', "pc.backend: is not a known key; did you mean backends"),
        (ROW + 'backends = "cpu"\n', "pc.backends: expected a list of texts, got 'cpu'; write ["),
        (ROW + "backends = [1]\n", "pc.backends: expected a list of texts, got [1]"),
        (ROW + "backends = []\n", "pc.backends: names no backend, so nothing could run; add one"),
        (ROW, "pc.backends: names no backend, so nothing could run; add one"),
        (ROW + 'backends = ["cpu"]\nconstraints = 3\n', "pc.constraints: expected text, got 3"),
        (ROW + 'backends = ["cpu"]\npython = "3.11"\n', 'like ">=3.11,<3.15"'),
        (ROW + 'backends = ["cpu"]\nname = "gpu"\n', "pc.name: is not a known key"),
        (ROW + 'backends = ["cpu"]\nhost = "PC"\n', "pc.host: is not a table; write [tool.tune"),
        (
            HOST + 'machine = ["linux x86_64"]\n',
            "pc.host.machine: is not a known key; did you mean machines",
        ),
        (HOST + 'machines = "linux"\n', "pc.host.machines: expected a list of texts, got 'linux'"),
        (HOST + 'minimum_glibc = "new"\n', "pc.host.minimum_glibc: can't be understood: 'new'"),
        (
            ROW + 'backends = ["cpu"]\n[tool.tunematrix.environments.pc-lowest]\n',
            "pc-lowest: is what the lowest variant of pc is called; choose another name",
        ),
        ("[tool.tunematrix.environments]\ncpu = 3\n", "cpu: is not a table; write [tool.tunemat"),
        (TABLE + "shipped = []\n", "environments: holds no environment; name one in shipped, or"),
        (TABLE + "shipped = 3\n", "shipped: expected a list of texts, got 3; write ["),
        (TABLE + 'shipped = ["cuba"]\n', "shipped: cuba is not one; did you mean cuda"),
        ("[tool.tunematrix]\nenvironments = 3\n", "environments: is not a table; write [tool"),
        (
            '[tool.tunematrix.environments.cpu-latest]\nbackends = ["cpu"]\n',
            "cpu-latest: is what the latest variant of cpu is called; choose another name",
        ),
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
        "import sys, tunematrix.environments.table, tunematrix.environments.host\n"
        "print(sorted({'pydantic', 'yaml', 'hydra', 'torch'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"


def test_where_none_is_named(tmp_path: Path) -> None:
    """It is cpu, or the only one; a choice between several is the user's."""
    rows = {name: f'[tool.tunematrix.environments.{name}]\nbackends = ["cpu"]\n' for name in "ab"}
    rows["a"] = f"{TABLE}shipped = []\n" + rows["a"]
    only = read(tmp_path, rows["a"])
    assert find_environment(None, only).name == "a"
    both = read(tmp_path, rows["a"] + rows["b"])
    with pytest.raises(BadInput, match="there are the environments a, b; name one with -e"):
        find_environment(None, both)
    shipped = read(tmp_path, "")
    assert find_environment(None, shipped).name == "cpu"
