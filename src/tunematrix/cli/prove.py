"""The verb `prove`: the suite over the versions that a user has."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from tunematrix.cli.app import PASSES_ON, EnvironmentOption, Verb, app, place
from tunematrix.environments.table import YOURS, Environment, find_environment
from tunematrix.environments.yours import Ready, prepare, yours
from tunematrix.errors import BadInput
from tunematrix.paths import state
from tunematrix.project import Project, read_project
from tunematrix.report.saying import complain


@app.command(
    cls=Verb,
    options_metavar="[OPTIONS] [PYTEST_ARGUMENT]...",
    context_settings=PASSES_ON,
)
def prove(
    context: typer.Context,
    python: Annotated[
        str,
        typer.Option(metavar="PATH", help="Python with your versions; of a lock: to install for."),
    ] = "",
    lock: Annotated[
        str,
        typer.Option(metavar="FILE", help="Your requirements.txt, uv.lock or pylock.toml."),
    ] = "",
    group: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A dependency group of the lock, too. Can be repeated."),
    ] = None,
    extra: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="An extra of the lock's project, too. Can be repeated."),
    ] = None,
    wheels: Annotated[
        str,
        typer.Option(metavar="FOLDER", help="What yours lack, from `tunematrix wheels`: offline."),
    ] = "",
    environment: EnvironmentOption = None,
) -> None:
    """Run the suite over the versions that you have, and change none.

    What the suite needs besides is put into a folder apart. Records are in
    .tunematrix/cpu-yours/, or of the backend that -e names. Other arguments
    go to pytest: -m smoke, -k hqq, spec files.

    Example: tunematrix prove --python ~/train/.venv/bin/python -m smoke
    Example: tunematrix prove --lock uv.lock -e cuda
    """
    project = read_project(Path.cwd(), environment)
    row = row_of(project, python, lock)
    parts = (*(f"--group={name}" for name in group or ()), *(f"--extra={e}" for e in extra or ()))
    ready = prepare_row(project, row, wheels, parts)
    command = [str(ready.python), *ready.options, place(project), *context.args]
    become(ready, command)


def row_of(project: Project, python: str, lock: str) -> Environment:
    """Return the row of the environment table that somebody's own versions are run as.

    Args:
        project: with the environment that was named. python, lock: where the versions are.

    Raises:
        BadInput: neither is given, and the environment names none.
    """
    row = project.environment
    if not (python or lock or row.is_yours):
        text = "name your versions: --python PATH of a Python that has them, or --lock FILE"
        raise BadInput(f"{text}; -e takes a row of pyproject.toml that names either, too")
    if not row.is_yours and row.variant != YOURS:
        row = find_environment(f"{row.base}-{YOURS}", project.environments)
    if python or lock:
        row = replace(row, interpreter=_absolute(_found(python)), lock=_absolute(lock))
    return row


def prepare_row(
    project: Project, row: Environment, wheels: str = "", parts: Sequence[str] = ()
) -> Ready:
    """Make a Python that runs the suite over the versions that a row names.

    Args:
        project: whose folder it is made in. row: names the versions.
        wheels: folder of what they lack; empty for a package index.
        parts: options of uv that choose parts of a lock.

    Raises:
        BadInput: they can't be used, or what is asked for doesn't go together.
        MachineProblem: there is no uv, or no space.
    """
    if parts and not row.lock:
        text = "--group and --extra choose of a lock, and none is named"
        raise BadInput(f"{text}; add --lock uv.lock")
    if wheels and row.lock:
        raise BadInput("--wheels goes with --python: a lock is installed from package indexes")
    folder = (state(project.root) / row.name).resolve()
    carried = Path(wheels).resolve() if wheels else None
    order = replace(yours(row, folder), wheels=carried, parts=tuple(parts))
    return prepare(order, complain, lambda text: complain(f"warning: {text}"))


def become(ready: Ready, command: list[str]) -> NoReturn:
    """Run a command of such a Python in the place of this process."""
    changed = {**os.environ, **ready.variables}
    os.execve(ready.python, command, {k: v for k, v in changed.items() if v is not None})


def _found(python: str) -> str:
    """Return where a Python lies that may be named as in a shell: python3.13."""
    return shutil.which(python) or python


def _absolute(path: str) -> str:
    """Return a path as it is called from any folder; links stay, since a virtualenv's is one."""
    return str(Path(path).expanduser().absolute()) if path else ""
