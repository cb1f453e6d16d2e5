#!/usr/bin/env -S uv run --script
# /// script
# requires-python = ">=3.11"
# dependencies = ["nox>=2025.10.14"]
# ///
"""The workshop of tunematrix: a session for each environment, and one for each developer's job.

    nox -s cpu                    build the environment, prove the stack in it
    nox -s cpu -- -m smoke        what follows the -- goes to pytest
    nox -s cpu -- -k hqq-int4     ... so this runs the cells of one quantizer
    nox -s cpu-latest             the same with the newest releases; cpu-lowest with the oldest
    nox --usage cpu               all there is to know about a session

An environment is built from locked constraints, once, and again only when what it is made of has
changed. Running a session again repairs a build that was interrupted. With TUNEMATRIX_INHERIT=1
it is built over the packages of the Python that runs Nox, and adds what is missing there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036  # Nox itself runs on older ones
    _FOUND = f"Nox is run by Python {sys.version.split()[0]}, tunematrix needs 3.11 or later"
    sys.exit(f'{_FOUND}: python3.11 -m pip install "nox[uv]" && python3.11 -m nox ...')

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "src"))

import nox

from tunematrix.environments import locks
from tunematrix.environments.building import NOT_INSTALLED, Order, one_at_a_time
from tunematrix.environments.host import command_refusal, refusal, this_machine
from tunematrix.environments.table import Environment, read_environments
from tunematrix.errors import BadInput
from tunematrix.paths import pyproject

try:
    PYPROJECT = pyproject(ROOT)
    ENVIRONMENTS = read_environments(ROOT, [])
    locks.held_back(ROOT)
except BadInput as _problem:
    sys.exit(str(_problem))

INHERITS = os.environ.get("TUNEMATRIX_INHERIT", "") not in ("", "0")
LOCKED = [row for row in ENVIRONMENTS.values() if row.variant == "locked"]
DEV = "constraints/dev.txt"
LOCKS = {row.constraints: row.extras for row in LOCKED} | {DEV: ()}
MACHINE = this_machine(row.host for row in LOCKED)
SPECS = " ".join(PYPROJECT["tool"]["pytest"]["ini_options"]["tunematrix_specs"])
VERSIONS = {"locked": "", "lowest": " as old as its bounds allow", "latest": " as new as it gets"}

# Of uv's variables, those that don't decide what a resolution comes to.
HARMLESS = ("UV_CACHE_DIR", "UV_HTTP_TIMEOUT", "UV_INSECURE_HOST", "UV_NATIVE_TLS")
# Unless the caller has set them, as in `HF_HUB_OFFLINE=0 nox -s cpu`.
OFFLINE = {
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "WANDB_MODE": "disabled",
}

nox.needs_version = ">=2025.10.14"
# uv doesn't see the packages that a virtualenv inherits, and would install them again.
nox.options.default_venv_backend = "virtualenv" if INHERITS else "uv|virtualenv"
nox.options.error_on_external_run = True
nox.options.reuse_venv = "yes"
os.environ.setdefault("NOX_ENABLE_STALENESS_CHECK", "1")  # another Python: another virtualenv


def define_environment(row: Environment) -> None:
    """Make a session of one row of the table; on a machine that can't have it, one that says so."""
    refused = refusal(row.host, MACHINE)

    def prove(session: nox.Session) -> None:
        if reason := refused or command_refusal(row.host):
            session.error(f"{row.name} can't work on this machine.\n{reason}")
        # An ini override, not a path: pytest knows which of the caller's arguments are paths,
        # and lets those replace the suite.
        suite = f"--override-ini=testpaths={SPECS}"
        options = ["-v", f"--environment={row.name}", f"--require={row.name}"]
        run_in(session, [row.name], "-m", "pytest", suite, *options)

    prove.__doc__ = f"""Prove the stack{VERSIONS[row.variant]}: {row.description}.

    Builds the environment if need be and runs the shared suite ({SPECS}) in it.
    What follows -- goes to pytest; paths and node ids there replace the suite. A library that
    the environment requires and lacks fails the run. Ctrl-C still records what has finished.
    Records, JUnit XML and a folder for each cell are left in .tunematrix/{row.name}/.
    """
    nox.session(name=row.name, default=False, venv_backend="none" if refused else None)(prove)


for _row in ENVIRONMENTS.values():
    define_environment(_row)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting and which module may import which."""
    build(session, "-r", "constraints/dev.in", lock=DEV)
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports", "--no-logo", env={"PYTHONPATH": "src"})


@nox.session
def typecheck(session: nox.Session) -> None:
    """Check types with mypy --strict; no ML library is needed."""
    build(session, "-e", ".", "-r", "constraints/dev.in", lock=DEV)
    session.run("mypy", *session.posargs)


@nox.session(default=False)
def tests(session: nox.Session) -> None:
    """Test tunematrix itself, among the libraries of cpu, and of mlx where there are any.

    What follows -- goes to pytest: `nox -s tests -- tests/unit -x`.
    """
    here = [name for name in ("cpu", "mlx") if not refusal(ENVIRONMENTS[name].host, MACHINE)]
    run_in(session, here, "-m", "pytest", tools=["nox"])


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure what tunematrix itself costs."""
    run_in(session, ["cpu"], "tests/bench/bench.py")


def define_measure(verb: str, doc: str) -> None:
    """Make a session of one of tunematrix's verbs that measure the suite; its arguments follow."""

    def measure(session: nox.Session) -> None:
        os.environ["PATH"] += os.pathsep + str(Path(sys.executable).parent)  # where Nox has its uv
        run_in(session, ["cpu"], "-m", "tunematrix", verb)

    measure.__doc__ = doc
    nox.session(name=verb, default=False)(measure)


define_measure("faults", "Try deliberate faults, and say which check notices: -- -k gradients.")
define_measure("regressions", "Try old releases that had real faults, and those without: -- R1 R4.")
define_measure("soak", "Train all cells under many seeds, -- 20: no outcome may depend on one.")


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Write the README's table of where the suite has run, from docs/verified/."""
    build(session, "-e", ".", lock=DEV)
    files = sorted(str(file) for file in ROOT.glob("docs/verified/*.jsonl"))
    session.run("tunematrix", "report", *files, "--markdown=README.md")


@nox.session(default=False)
def toyworld(session: nox.Session) -> None:
    """Train the toy world's base model again, into the package, and what it is held against."""
    run_in(session, ["cpu", "mlx"], "-m", "tunematrix.stack.toyworld.train_base")
    run_in(session, ["cpu", "mlx"], "-m", "tunematrix.stack.toyworld.make_reference")


@nox.session(default=False)
def lock(session: nox.Session) -> None:
    """Compile the constraints from constraints/*.in and pyproject.toml, then check them.

    Pins that still fit stay; `nox -s lock -- --upgrade` moves all that is not pinned by hand,
    there or in [[tool.tunematrix.held_back]]. Resolves against PyPI, whatever this machine's
    package settings are, for all platforms at once.
    """
    for file in LOCKS:
        command = f"nox -s lock  {locks.seal(ROOT, ROOT / file, LOCKS[file])}"
        header = [f"--custom-compile-command={command}", "--annotation-style=line"]
        resolve(session, file, "--universal", f"-o={file}", *header, *session.posargs)
    session.notify("locks")


@nox.session(name="locks", default=False)
def check_locks(session: nox.Session) -> None:
    """Check, against PyPI, that each lock fits pyproject.toml and resolves on all its platforms."""
    for file, extras in LOCKS.items():
        if wrong := locks.mismatch(ROOT, ROOT / file, extras):
            session.error(wrong)
    for row in LOCKED:
        for platform in row.platforms:
            there = (f"-c={row.constraints}", f"--python-platform={platform}")
            resolve(session, row.constraints, *there)


def resolve(session: nox.Session, lock: str, *options: str) -> None:
    """Resolve what a lock is made of, whatever package indexes this machine is told to use."""
    if session.venv_backend != "uv":
        session.error('Only uv resolves for other machines: python -m pip install "nox[uv]"')
    command = locks.resolving(ROOT, lock, LOCKS[lock], Path(session.create_tmp()))
    told = [name for name in os.environ if name.startswith("UV_") and name not in HARMLESS]
    env: dict[str, str | None] = dict.fromkeys(told)
    env["MACOSX_DEPLOYMENT_TARGET"] = "14.0"  # what macOS wheels of ML libraries ask for
    session.run(*command, *options, env=env, silent=True)


def run_in(
    session: nox.Session, names: Sequence[str], *arguments: str, tools: Sequence[str] = ()
) -> None:
    """Run the Python of some environments, built if need be; the caller's arguments follow ours."""
    rows = [ENVIRONMENTS[name] for name in names]
    extras = ",".join(dict.fromkeys(extra for row in rows for extra in row.extras))
    build(session, "-e", f".[{extras}]", *tools, rows=rows, lock=DEV if tools else "")
    env = OFFLINE | {name: os.environ[name] for name in OFFLINE if name in os.environ}
    if INHERITS:  # commands of inherited packages, such as ninja
        env["PATH"] = os.pathsep.join([os.environ["PATH"], str(Path(sys.executable).parent)])
    # Ctrl-C: records and JUnit are written before this loses patience.
    command = ["python", *arguments, *session.posargs]
    session.run(*command, env=env, interrupt_timeout=60, terminate_timeout=15)


def build(
    session: nox.Session, *what: str, rows: Sequence[Environment] = (), lock: str = ""
) -> None:
    """Install what is asked for, unless the virtualenv's stamp says that it is there."""
    if session.run_install("python", "--version", silent=True, log=False) is None:
        return  # --no-install: what there is has to do
    backend = session.venv_backend
    order = Order(ROOT, session.env_dir, what, tuple(rows), lock, backend, INHERITS)
    try:
        order.check()
        with one_at_a_time(order.virtualenv, session.log):
            if order.state != order.fingerprint:
                install(session, order)
    except BadInput as problem:
        session.error(str(problem))


def install(session: nox.Session, order: Order) -> None:
    """Install everything; where something was inherited, say what."""
    installation = order.prepare()
    for warning in installation.warnings:
        session.warn(warning)
    try:
        session.install(*order.what, *installation.options, env=installation.variables)
    except nox.command.CommandFailed:
        session.error(NOT_INSTALLED)
    for line in order.finish():
        session.log(line)


if __name__ == "__main__":
    nox.main()
