"""The whole way of docs/your-project.md, with a real wheel in a fresh virtualenv."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tunematrix.paths import project_root

pytestmark = [pytest.mark.slow, pytest.mark.nightly]  # it builds two environments from nothing

ROOT = project_root(Path(__file__).parent)
LINES = "from tunematrix.nox import environments\n\nenvironments()\n"


@dataclass(frozen=True)
class User:
    """Somebody with a virtualenv that holds a wheel of tunematrix, and Nox.

    Attributes:
        bin: the programs of that virtualenv.
        wheel: which was installed, and is gone by now.
    """

    bin: Path
    wheel: Path

    def run(self, folder: Path, *command: str) -> str:
        """Run a command in a folder, which has to succeed; return what it says."""
        foreign = ("NOX_", "TUNEMATRIX_", "PYTEST_", "PYTHON", "VIRTUAL_ENV")
        env = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        env["PATH"] = os.pathsep.join([str(self.bin), env["PATH"]])
        ended = subprocess.run(
            command,
            cwd=folder,
            env=env | {"NO_COLOR": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout
        return ended.stdout


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> User:
    """A newcomer, after `pip install WHEEL nox[uv]`."""
    folder = tmp_path_factory.mktemp("user")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    pip = folder / "venv" / "bin" / "pip"
    built = [str(pip), "wheel", "--quiet", "--no-deps", f"--wheel-dir={folder}", str(ROOT)]
    subprocess.run(built, check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([str(pip), "install", "--quiet", str(wheel), "nox[uv]"], check=True)
    wheel.unlink()
    return User(pip.parent, wheel)


def outcomes(folder: Path, environment: str) -> dict[str, str]:
    """The outcome of each cell that ran, by its spec and its id."""
    lines = (folder / ".tunematrix" / environment / "results.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    ran = [record for record in records if record["outcome"] != "unsupported"]
    return {f"{record['spec']}::{record['cell_id']}": record["outcome"] for record in ran}


def test_an_empty_folder(user: User, tmp_path: Path) -> None:
    """To the letter of the page: init, then the fastest cells of the environment cpu."""
    user.run(tmp_path, "tunematrix", "init")
    said = user.run(tmp_path, "nox", "-s", "cpu", "--", "-m", "smoke")
    found = outcomes(tmp_path, "cpu")
    assert set(found.values()) == {"passed"}
    assert "configs/specs/first.yaml::first[cpu-lora-none]" in found
    assert "shipped/full.yaml::full[cpu-full-none]" in found
    assert "site-packages" not in "".join(found)
    assert "tunematrix cpu" in said
    again = user.run(tmp_path, "nox", "-s", "cpu", "--", "--collect-only", "-q")
    assert "pip install" not in again


def test_a_project_that_is_there(user: User, tmp_path: Path) -> None:
    """It is installed beside tunematrix; its noxfile keeps its session; both suites run."""
    (tmp_path / "src" / "mine").mkdir(parents=True)
    (tmp_path / "src" / "mine" / "__init__.py").touch()
    (tmp_path / "noxfile.py").write_text(
        "import nox\n\n\n@nox.session\ndef docs(session):\n    session.log('mine')\n"
    )
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "mine"\nversion = "1"\n'
        '[tool.pytest.ini_options]\naddopts = "--no-such-option"\n'
    )
    said = user.run(tmp_path, "tunematrix", "init", "--environments", "mlx")
    assert "from tunematrix.nox import environments" in said
    with (tmp_path / "noxfile.py").open("a") as noxfile:
        noxfile.write(LINES)
    assert "* docs" in user.run(tmp_path, "nox", "-l")
    cell = "shipped/parity.yaml::parity[mlx]"
    user.run(tmp_path, "nox", "-s", "mlx", "--", "-n0", "configs/specs", cell)
    assert outcomes(tmp_path, "mlx") == {
        "configs/specs/first.yaml::first[mlx-lora-none]": "passed",
        cell: "passed",
    }
    python = str(tmp_path / ".nox" / "mlx" / "bin" / "python")
    where = user.run(tmp_path, python, "-c", "import mine; print(mine.__file__)")
    assert where.strip() == str(tmp_path / "src" / "mine" / "__init__.py")
