"""Environments as sessions of Nox, for the noxfile.py of any project.

This is all that such a file needs:

    from tunematrix.nox import environments

    environments()

Each environment of the project becomes a session, with its variants: cpu, cpu-lowest, cpu-latest.
The session builds a virtualenv from locked versions, with the tunematrix that Nox runs beside and
the project itself in it, and runs the project's specs. It is built again only when what it is made
of has changed. With TUNEMATRIX_INHERIT=1 it is built over the packages of the Python that runs Nox.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import nox

from tunematrix.environments.building import NOT_INSTALLED, Order, one_at_a_time
from tunematrix.environments.contents import contents
from tunematrix.environments.host import Machine, command_refusal, refusal, this_machine
from tunematrix.environments.origin import Origin
from tunematrix.environments.running import ENDING, LISTING, OFFLINE, PYTEST
from tunematrix.environments.table import Environment, read_environments
from tunematrix.environments.yours import prepare, yours
from tunematrix.errors import BadInput, TunematrixError
from tunematrix.paths import project_root, pytest_settings, state

INHERITS = os.environ.get("TUNEMATRIX_INHERIT", "") not in ("", "0")
"""Whether environments are built over the packages of the Python that runs Nox."""

BACKEND = "virtualenv" if INHERITS else "uv|virtualenv"
"""What makes virtualenvs; uv doesn't see inherited packages, and would install them again."""

WORKER = "--worker"
"""Among the caller's arguments, asks for a worker of a fleet in the place of a run."""

# Each as far as Nox takes it for the whole option.
_SKIPS = "--no-error-on-m"
_OTHER = ("-P", "--force-p", "--extra-p")
"""Options by which a session of ours asks for another Python; a project's own may miss theirs."""

VERSIONS = {"locked": "", "lowest": "; oldest supported versions", "latest": "; newest versions"}


def environments() -> Mapping[str, Environment]:
    """Make a session of each environment of the project that noxfile.py lies in; return them all.

    What is wrong with the project's table ends Nox with a message.
    """
    root = project_root(Path.cwd())  # Nox is in the folder of noxfile.py
    try:
        rows = read_environments(root, [])
        specs = pytest_settings(root).get("tunematrix_specs", ["shipped"])
    except BadInput as problem:
        sys.exit(str(problem))
    os.environ.setdefault("NOX_ENABLE_STALENESS_CHECK", "1")  # another Python: another virtualenv
    nox.options.error_on_missing_interpreters = True  # `nox -P 3.13` would skip, and end with 0
    skips, others = (any(one.startswith(of) for one in sys.argv[1:]) for of in (_SKIPS, _OTHER))
    if skips and others:
        text = "a session without its Python would end with 0; leave this out"
        sys.exit(f"--no-error-on-missing-interpreters: {text}")
    machine = this_machine(row.host for row in rows.values())
    for row in rows.values():
        if row.is_yours:
            _define_yours(row, specs)
        else:
            _define(row, machine, specs)
    return rows


def run_in(
    session: nox.Session,
    rows: Sequence[Environment],
    *arguments: str,
    tools: Sequence[str] = (),
    lock: str = "",
    proves: bool = False,
    more: Sequence[str] | None = None,
) -> None:
    """Run the Python of some environments, built if need be; the caller's arguments follow ours.

    Args:
        session: of Nox, in whose virtualenv the environments are built together.
        rows: the environments.
        arguments: of Python.
        tools: requirements that are installed beside them.
        lock: path of the lock that holds these tools, relative to the project.
        proves: whether it is a run of the suite, which has to say itself that it came to its end.
        more: what follows our arguments, in the place of the caller's.
    """
    root, cache = project_root(Path.cwd()), Path(session.cache_dir).resolve() / "tunematrix"
    try:
        what = contents(root, Origin(), rows, cache)
    except BadInput as problem:
        session.error(str(problem))
    build(session, *what, *tools, rows=rows, lock=lock)
    env = OFFLINE | {name: os.environ[name] for name in OFFLINE if name in os.environ}
    if INHERITS:  # commands of inherited packages, such as ninja
        env["PATH"] = os.pathsep.join([os.environ["PATH"], str(Path(sys.executable).parent)])
    command = ["python", *arguments, *(session.posargs if more is None else more)]
    if proves:
        run_to_its_end(session, command, env)
    else:
        session.run(*command, env=env, interrupt_timeout=60, terminate_timeout=15)


def build(
    session: nox.Session, *what: str, rows: Sequence[Environment] = (), lock: str = ""
) -> None:
    """Install what is asked for, unless the virtualenv's stamp says that it is there.

    Args:
        session: of Nox.
        what: arguments of the installer.
        rows: the environments whose locks hold.
        lock: path of another one, relative to the project.
    """
    if session.run_install("python", "--version", silent=True, log=False) is None:
        return  # --no-install: what there is has to do
    root = project_root(Path.cwd())
    order = Order(root, session.env_dir, what, tuple(rows), lock, session.venv_backend, INHERITS)
    try:
        order.check()
        with one_at_a_time(order.virtualenv, session.log):
            if order.state != order.fingerprint:
                _install(session, order)
    except BadInput as problem:
        session.error(str(problem))


def _define(row: Environment, machine: Machine, specs: Sequence[str]) -> None:
    """Make a session of an environment; on a machine that can't have it, one that says so."""
    refused = refusal(row.host, machine)

    def prove(session: nox.Session) -> None:
        if obstacle := refused or command_refusal(row.host):
            lines = "".join(f"\n  {line}" for line in obstacle.lines)
            session.error(f"{row.name} can't work on this machine.{lines}")
        if session.posargs[:1] == [WORKER]:
            verb = ("-m", "tunematrix", "worker", f"--environment={row.name}")
            run_in(session, [row], *verb, more=session.posargs[1:])
            return
        # Without a path among the caller's arguments, the plug-in adds the project's specs.
        options = [*PYTEST, f"--environment={row.name}", f"--require={row.name}"]
        run_in(session, [row], "-m", "pytest", *options, proves=True)

    prove.__doc__ = f"""Test {row.description}{VERSIONS[row.variant]}.

    Builds the virtualenv if it is missing or outdated, and runs specs in it: {", ".join(specs)}.
    What follows -- goes to pytest; paths and node ids there replace these specs. A missing
    library fails the run. After Ctrl-C, the cells that have finished are recorded.
    Records, JUnit XML and a folder for each cell are left in .tunematrix/{row.name}/.

    `--worker ADDRESS` after -- offers this environment to a fleet instead.

    Example: nox -s {row.name} -- -m smoke
    """
    backend = "none" if refused else BACKEND
    nox.session(name=row.name, default=False, venv_backend=backend, reuse_venv=True)(prove)


def _define_yours(row: Environment, specs: Sequence[str]) -> None:
    """Make a session of an environment whose versions the user has."""

    def prove(session: nox.Session) -> None:
        folder = (state(project_root(Path.cwd())) / row.name).resolve()
        try:
            ready = prepare(yours(row, folder), session.log, session.warn)
        except TunematrixError as problem:
            session.error(str(problem))
        command = [str(ready.python), *ready.options, *session.posargs]
        run_to_its_end(session, command, ready.variables, external=True)

    prove.__doc__ = f"""Test {row.description or f"the versions of {row.lock or row.interpreter}"}.

    Runs specs over the user's versions, which stay as they are: {", ".join(specs)}. What the suite
    needs besides is put into a folder apart. What follows -- goes to pytest.
    Records, JUnit XML and a folder for each cell are left in .tunematrix/{row.name}/.

    Example: nox -s {row.name} -- -m smoke
    """
    nox.session(name=row.name, default=False, venv_backend="none")(prove)


def run_to_its_end(
    session: nox.Session,
    command: Sequence[str],
    env: Mapping[str, str | None],
    *,
    external: bool = False,
) -> None:
    """Run the suite; a process that ends with 0 before its end has proven nothing."""
    ending = Path(session.cache_dir).resolve() / "tunematrix" / f"{session.name}.ending"
    ending.parent.mkdir(parents=True, exist_ok=True)
    ending.unlink(missing_ok=True)
    env = {**env, ENDING: str(ending)}
    # Ctrl-C: records and JUnit are written before this loses patience.
    ran = session.run(
        *command, env=env, external=external, interrupt_timeout=60, terminate_timeout=15
    )
    if ran is None or LISTING.intersection(session.posargs):
        return  # --install-only, or a listing
    if not ending.exists() or ending.read_text(encoding="utf-8").strip() != "0":
        session.error("pytest ended with 0 before the suite had ended, so nothing is proven")


def _install(session: nox.Session, order: Order) -> None:
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
