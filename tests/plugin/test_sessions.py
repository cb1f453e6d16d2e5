"""The noxfile of this repository, driven by a real Nox in a copy."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tunematrix.environments.host import refusal, this_machine
from tunematrix.environments.table import read_environments
from tunematrix.paths import project_root

ROOT = project_root(Path(__file__).parent)
TABLE = "constraints/environments.toml"
LOCKED = ["cpu", "cuda", "mps", "mlx"]


@dataclass(frozen=True)
class Checkout:
    """A copy of what Nox reads.

    Attributes:
        root: its folder.
    """

    root: Path

    def nox(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Call Nox in it."""
        foreign = ("NOX_", "TUNEMATRIX_", "FORCE_COLOR")
        env = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        return subprocess.run(
            [sys.executable, "-m", "nox", *arguments],
            cwd=self.root,
            env=env | {"NO_COLOR": "1"} | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def replace(self, file: str, old: str, new: str) -> None:
        """Change the one place in a file that reads so."""
        path = self.root / file
        before, found, after = path.read_text(encoding="utf-8").partition(old)
        assert found, f"{file} has no {old}"
        path.write_text(before + new + after, encoding="utf-8")

    @property
    def built(self) -> set[str]:
        """The virtualenvs that were made."""
        return {path.parent.name for path in self.root.glob(".nox/*/pyvenv.cfg")}


def cpu_seconds() -> float:
    """What processes that have ended took of the CPU; a busy machine doesn't change it much."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A fresh copy, in which nothing was built."""
    for name in ("noxfile.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("constraints", "src"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("stack"))
    return Checkout(tmp_path)


def test_all_are_listed(checkout: Checkout) -> None:
    """The four environments and their variants, each with a line of its own, and quickly."""
    before = cpu_seconds()
    listed = checkout.nox("-l")
    assert cpu_seconds() - before < 5  # half a second where modules are compiled
    lines = dict(re.findall(r"^[-*] (\S+) -> (.+)$", listed.stdout, re.MULTILINE))
    variants = [f"{name}{variant}" for name in LOCKED for variant in ("", "-lowest", "-latest")]
    assert set(variants) <= set(lines)
    assert len({lines[name] for name in variants}) == len(variants)
    marked = re.findall(r"^\* (\S+) ->", listed.stdout, re.MULTILINE)
    assert marked == ["lint", "typecheck"]


def lacking() -> list[str]:
    """The environments that this machine can't have; there is no machine that has all."""
    rows = read_environments(ROOT, [])
    machine = this_machine(rows[name].host for name in LOCKED)
    return [name for name in LOCKED if refusal(rows[name].host, machine)]


@pytest.mark.parametrize("variant", ["", "-latest"])
@pytest.mark.parametrize("name", lacking())
def test_what_this_machine_cannot_have(checkout: Checkout, name: str, variant: str) -> None:
    """It is refused in no time, in three parts, before a virtualenv is made."""
    before = cpu_seconds()
    ended = checkout.nox("-s", f"{name}{variant}")
    assert cpu_seconds() - before < 10
    assert ended.returncode == 1
    said = [line.strip().partition(":")[0] for line in ended.stdout.splitlines()]
    assert said[-3:] == ["looked for", "found", "to do"]
    assert f"{name}{variant} can't work on this machine." in ended.stdout
    assert checkout.built == set()


def test_a_device_that_does_not_answer(checkout: Checkout) -> None:
    """A tool that is there and lists no device is quoted."""
    checkout.replace(TABLE, '"nvidia-smi", "/dev/nvidiactl"', '"sh", "/dev/nvidiactl"')
    command = """command = ["sh", "-c", "echo No devices were found; exit 6"]"""
    checkout.replace(TABLE, 'command = ["nvidia-smi", "-L"]', command)
    checkout.replace(TABLE, 'machines = ["linux x86_64", "linux aarch64"]', "")
    ended = checkout.nox("-s", "cuda")
    assert ended.returncode == 1
    assert "ended with 6 and said: No devices were found" in ended.stdout


def test_a_python_without_wheels(checkout: Checkout) -> None:
    """The environment's Pythons are named, and how to choose one."""
    checkout.replace(TABLE, 'python = ">=3.11,<3.15"', 'python = ">=3.98,<3.99"')
    ended = checkout.nox("-s", "cpu")
    assert ended.returncode == 1
    assert "cpu needs Python >=3.98,<3.99: there are no wheels for 3." in ended.stdout
    assert "nox -P 3.13 -s cpu" in ended.stdout


def test_a_python_that_is_too_old(checkout: Checkout) -> None:
    """Nox may be run by one that can't even read pyproject.toml."""
    code = "import runpy, sys; sys.version_info = (3, 10, 0); runpy.run_path('noxfile.py')"
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, cwd=checkout.root, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "tunematrix needs 3.11 or later" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("session", ["cpu", "lint"])
def test_a_lock_that_does_not_fit(checkout: Checkout, session: str) -> None:
    """Nothing is installed by it; the command that compiles it is named."""
    checkout.replace("pyproject.toml", '"rich>=13.9"', '"rich>=14.1"')
    ended = checkout.nox("-s", session)
    assert ended.returncode == 1
    lock = "dev" if session == "lint" else session
    assert f"constraints/{lock}.txt was compiled from other requirements than" in ended.stdout
    assert "run nox -s lock" in ended.stdout
    assert not list(checkout.root.glob(".nox/*/tunematrix-build"))


@pytest.mark.parametrize("variable", ["PIP_INDEX_URL", "UV_DEFAULT_INDEX"])
def test_an_index_out_of_reach(checkout: Checkout, variable: str) -> None:
    """After the installer's own words stands what to do; the next run knows what was left."""
    nowhere = "http://127.0.0.1:9/simple"
    aside = {"UV_NO_CACHE": "1", "UV_HTTP_RETRIES": "0", "PIP_RETRIES": "0"}
    alone = aside | {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "", "PIP_NO_CACHE_DIR": "1"}
    told = alone | {"PIP_INDEX_URL": nowhere, variable: nowhere}
    ended = checkout.nox("-s", "lint", **told)
    assert ended.returncode == 1
    words, _, advice = ended.stdout.rpartition("The installer failed; its own error message is")
    assert "127.0.0.1" in words
    assert "PIP_NO_INDEX=1 PIP_FIND_LINKS=/folder/of/wheels nox -s" in advice
    stamp = checkout.root / ".nox" / "lint" / "tunematrix-build"
    assert stamp.read_text() == "unfinished"


def test_a_wrong_table(checkout: Checkout) -> None:
    """Nox shows the mistake, not a traceback."""
    row = '[tool.tunematrix.environments.mps]\nbackends = "mps"\n\n'
    checkout.replace("pyproject.toml", "[tool.hatch.build]", f"{row}[tool.hatch.build]")
    ended = checkout.nox("-l")
    assert ended.returncode == 1
    assert "pyproject.toml: tool.tunematrix.environments.mps.backends: expected" in ended.stdout
    assert "Traceback" not in ended.stdout


def test_variants_need_uv(checkout: Checkout) -> None:
    """pip can't choose the lowest versions, and it is said so."""
    ended = checkout.nox("--force-venv-backend", "virtualenv", "-s", "cpu-lowest")
    assert ended.returncode == 1
    assert 'Only uv can choose the lowest versions: python -m pip install "nox[uv]"' in ended.stdout


def test_a_python_that_is_not_there(checkout: Checkout) -> None:
    """It is no reason to end with 0 and nothing tested."""
    ended = checkout.nox("-P", "3.99", "-s", "cpu")
    assert ended.returncode == 1, ended.stdout
    assert "3.99" in ended.stdout


def test_a_python_that_may_be_missing(checkout: Checkout) -> None:
    """Nox would skip the session, and end with 0."""
    ended = checkout.nox("-P", "3.99", "-s", "cpu", "--no-error-on-missing-interpreters")
    assert ended.returncode == 1
    assert "a session without its Python would end with 0; leave this out" in ended.stdout
    listed = checkout.nox("-l", "--no-error-on-missing-interpreters")
    assert listed.returncode == 0, "a session of the project's own may miss its Python"


EARLY = """
import os

import nox

from tunematrix.nox import run_to_its_end


@nox.session(venv_backend="none")
@nox.parametrize("code", ["pass", "open(os.environ['TUNEMATRIX_ENDING'], 'w').write('0')"])
def prove(session, code):
    run_to_its_end(session, ["python", "-c", f"import os; {code}"], {}, external=True)
"""


def test_a_run_that_ends_before_its_end(checkout: Checkout) -> None:
    """Its process ends with 0 and hasn't said itself that it is through."""
    (checkout.root / "noxfile.py").write_text(EARLY)
    ended = checkout.nox(PYTHONPATH=str(checkout.root / "src"))
    assert ended.returncode == 1
    assert ended.stdout.count("ended with 0 before the suite had ended, so nothing is p") == 1
    assert ended.stdout.count("was successful") >= 1
