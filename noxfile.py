#!/usr/bin/env -S uv run --script
# /// script
# requires-python = ">=3.11"
# dependencies = ["nox[uv]>=2025.10.14"]
# ///
"""The workshop of tunematrix: a session for each environment, and one for each developer's job.

    nox -s cpu                    build the environment, prove the stack in it
    nox -s cpu -- -m smoke        what follows the -- goes to pytest
    nox -s cpu -- -k hqq-int4     ... so this runs the cells of one quantizer
    nox --usage cpu               all there is to know about a session

An environment is built from locked constraints, once, and again only when what it is made of has
changed. Running a session again repairs a build that was interrupted.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TypedDict

import nox

nox.needs_version = ">=2025.10.14"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_external_run = True
nox.options.reuse_venv = "yes"


class Environment(TypedDict):
    """What this file reads of a row of [tool.tunematrix.environments] in pyproject.toml."""

    description: str
    extras: list[str]
    constraints: str
    platforms: list[str]
    torch_index: str


PYPROJECT = nox.project.load_toml("pyproject.toml")
ENVIRONMENTS: dict[str, Environment] = PYPROJECT["tool"]["tunematrix"]["environments"]
SPECS = " ".join(PYPROJECT["tool"]["pytest"]["ini_options"]["tunematrix_specs"])

# Requirements kept behind their newest release in every lock. The reason stands above each.
HELD_BACK = [
    # Machines that can't reach https://download.pytorch.org/whl/cpu/torch/ hold a wheel of this.
    "torch==2.13.0",
]

# What pip has been told about where packages come from, under uv's name for it.
PIP_TO_UV = {
    "cert": "SSL_CERT_FILE",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "index-url": "UV_DEFAULT_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
}

# Unless the caller has set them, as in `HF_HUB_OFFLINE=0 nox -s cpu`.
OFFLINE = {
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "WANDB_MODE": "disabled",
}


def define_environment(name: str, environment: Environment) -> None:
    """Make a session of one row of the table."""

    def prove(session: nox.Session) -> None:
        # An ini override, not a path: pytest knows which of the caller's arguments are paths,
        # and lets those replace the suite.
        suite = f"--override-ini=testpaths={SPECS}"
        options = ["-v", f"--environment={name}", f"--require={name}"]
        python_of(session, name, "-m", "pytest", suite, *options)

    prove.__doc__ = f"""Prove the stack: {environment["description"]}.

    Builds the environment if need be and runs the shared suite ({SPECS}) in it.
    What follows -- goes to pytest; paths and node ids there replace the suite. A library that
    the environment requires and lacks fails the run. Ctrl-C still records what has finished.
    Records, JUnit XML and a folder for each cell are left in .tunematrix/{name}/.
    """
    nox.session(name=name, default=False)(prove)


for _name, _environment in ENVIRONMENTS.items():
    define_environment(_name, _environment)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting and which module may import which."""
    build(session, "-r", "constraints/dev.in", constraints="constraints/dev.txt")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports", "--no-logo", env={"PYTHONPATH": "src"})


@nox.session
def typecheck(session: nox.Session) -> None:
    """Check types with mypy --strict; no ML library is needed."""
    build(session, "-e", ".", "-r", "constraints/dev.in", constraints="constraints/dev.txt")
    session.run("mypy", *session.posargs)


@nox.session(default=False)
def tests(session: nox.Session) -> None:
    """Test tunematrix itself, among the libraries of the cpu environment.

    What follows -- goes to pytest: `nox -s tests -- tests/unit -x`.
    """
    python_of(session, "cpu", "-m", "pytest")


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure what tunematrix itself costs."""
    python_of(session, "cpu", "tests/bench/bench.py")


@nox.session(default=False)
def toyworld(session: nox.Session) -> None:
    """Train the toy world's base model again, into the package."""
    python_of(session, "cpu", "-m", "tunematrix.stack.toyworld.train_base")


@nox.session(default=False)
def lock(session: nox.Session) -> None:
    """Compile the constraints from constraints/*.in and pyproject.toml.

    Pins that still fit stay; `nox -s lock -- --upgrade` moves all that is not pinned by hand,
    there or in HELD_BACK. Resolves against PyPI, whatever this machine's package settings are,
    for all platforms at once, then proves that each platform an environment names can have it.
    """
    if session.venv_backend != "uv":
        session.error('Only uv can compile them: python -m pip install "nox[uv]".')
    resolve(session, "constraints/dev.in", "--universal", "-o=constraints/dev.txt")
    for name, environment in ENVIRONMENTS.items():
        extras = [f"--extra={extra}" for extra in environment["extras"]]
        inputs, locked = [f"constraints/{name}.in", *extras], environment["constraints"]
        resolve(session, *inputs, "--universal", f"-o={locked}")
        for platform in environment["platforms"]:
            resolve(session, *inputs, f"-c={locked}", f"--python-platform={platform}")


def python_of(session: nox.Session, name: str, *arguments: str) -> None:
    """Run the Python of an environment, built if need be; the caller's arguments follow ours."""
    row = ENVIRONMENTS[name]
    package = f".[{','.join(row['extras'])}]"
    build(session, "-e", package, constraints=row["constraints"], torch_index=row["torch_index"])
    env = OFFLINE | {name: os.environ[name] for name in OFFLINE if name in os.environ}
    command = ["python", *arguments, *session.posargs]
    # Ctrl-C: records and JUnit are written before this loses patience.
    session.run(*command, env=env, interrupt_timeout=60, terminate_timeout=15)


def build(session: nox.Session, *what: str, constraints: str, torch_index: str = "") -> None:
    """Install what is asked for, unless the virtualenv's stamp says that it is there.

    The stamp is written by installation steps, so that --no-install leaves it alone. While it
    reads "unfinished", the next build installs everything over.
    """
    stamp = session.env_dir / "tunematrix-build"
    wanted = fingerprint(session, *what, "-c", constraints)
    found = stamp.read_text() if stamp.exists() else ""
    if found == wanted:
        return
    settings = pip_settings()
    options = torch_sources(session, torch_index, constraints, settings.get("UV_FIND_LINKS", ""))
    if found == "unfinished":
        options.append("--force-reinstall")
    if session.venv_backend != "uv":
        session.warn('pip takes minutes for this, uv seconds: python -m pip install "nox[uv]".')
    write = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(sys.argv[2])"
    session.run_install("python", "-c", write, str(stamp), "unfinished", log=False)
    session.install(*what, "-c", constraints, *options, env=settings)
    session.run_install("python", "-c", write, str(stamp), wanted, log=False)


def fingerprint(session: nox.Session, *arguments: str) -> str:
    """A digest of all that decides what a virtualenv holds, its Python and its uv included."""
    files = [session.env_dir / "pyvenv.cfg", *map(Path, arguments)]
    texts = [file.read_text(encoding="utf-8") for file in files if file.is_file()]
    package = [PYPROJECT["build-system"], PYPROJECT["project"], PYPROJECT["tool"]["hatch"]]
    return hashlib.sha256(json.dumps([arguments, texts, package]).encode()).hexdigest()


def pip_settings() -> dict[str, str]:
    """Pip's settings, from PIP_* variables and pip's own files, as uv's variables."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    # Compiled now, or the first run would pay for it; several indexes are treated as by pip.
    settings = {"UV_COMPILE_BYTECODE": "1", "UV_INDEX_STRATEGY": "unsafe-best-match"}
    for option, variable in PIP_TO_UV.items():
        in_files = re.findall(rf"^(?:global|install)\.{option}=(.*)$", listed, re.MULTILINE)
        told = os.environ.get("PIP_" + option.upper().replace("-", "_"))
        if told or in_files:
            values = (told or str(ast.literal_eval(in_files[-1]))).split()
            settings[variable] = ("," if option == "find-links" else " ").join(values)
    return {name: os.environ.get(name, value) for name, value in settings.items()}


def torch_sources(session: nox.Session, index: str, constraints: str, find_links: str) -> list[str]:
    """Installer options that lead to PyTorch's build for a backend.

    For Linux, PyPI has the CUDA build alone, of several GB. The right one comes from pip's
    find-links or from PyTorch's index; where neither can give it, PyPI's has to do.
    """
    if not index or sys.platform != "linux":
        return []
    version = re.findall(r"^torch==(\S+)", Path(constraints).read_text(), re.MULTILINE)[0]
    wheel = f"torch-{version}+{Path(index).name}-cp3{sys.version_info.minor}-*.whl"
    folders = [Path(folder.removeprefix("file://")) for folder in find_links.split(",")]
    if any(list(folder.glob(wheel)) for folder in folders):
        return []
    try:
        urllib.request.urlopen(f"{index}/torch/", timeout=3).close()
    except OSError as problem:
        session.warn(f"{index} is out of reach ({problem}): taking PyPI's torch, several GB.")
        return []
    return ["--extra-index-url", index]


def resolve(session: nox.Session, *arguments: str) -> None:
    """Resolve pyproject.toml and the arguments against PyPI, with HELD_BACK."""
    held_back = Path(session.create_tmp(), "HELD_BACK-in-noxfile.txt")
    held_back.write_text("\n".join(HELD_BACK))
    lowest = PYPROJECT["project"]["requires-python"].removeprefix(">=")
    command = ["uv", "pip", "compile", "--no-config", "--default-index=https://pypi.org/simple"]
    header = ["--custom-compile-command=nox -s lock", "--annotation-style=line", "--quiet"]
    inputs = ["pyproject.toml", f"-c={held_back}", f"--python-version={lowest}", *arguments]
    env: dict[str, str | None] = {name: None for name in PIP_TO_UV.values() if "UV" in name}
    env["MACOSX_DEPLOYMENT_TARGET"] = "14.0"  # what macOS wheels of ML libraries ask for
    session.run(*command, *header, *inputs, *session.posargs, env=env, silent=True)


if __name__ == "__main__":
    nox.main()
