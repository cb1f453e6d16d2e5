"""The verb `doctor`: what this machine can do, and why it can't do the rest."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tunematrix.cli.app import AxisOption, JsonOption, Verb, app
from tunematrix.doctor import view as diagnosis
from tunematrix.doctor.examine import examine
from tunematrix.doctor.trials import open_context
from tunematrix.environments.table import find_environment
from tunematrix.errors import ExitCode
from tunematrix.matrix.select import parse_selection
from tunematrix.paths import project_root, pytest_settings
from tunematrix.project import read_configs
from tunematrix.report.saying import complain, say_json, show


@app.command(cls=Verb)
def doctor(
    environment: Annotated[
        str,
        typer.Option(
            "--environment",
            "-e",
            metavar="NAME",
            help="Examine only this environment; exit with 1 unless all of it works.",
        ),
    ] = "",
    axis: AxisOption = None,
    timeout: Annotated[
        int, typer.Option(min=1, metavar="SECONDS", help="Time limit of each trial.")
    ] = 120,
    as_json: JsonOption = False,
) -> None:
    """Find out what works on this machine, and why the rest doesn't.

    Examines environments, backends and quantizers. What is installed is
    tried in a small real run. Without --environment the exit code is 0.

    Example: tunematrix doctor --environment cuda
    """
    root = project_root(Path.cwd())
    groups, environments = read_configs(root, pytest_settings(root))
    wanted = find_environment(environment, environments) if environment else None
    context = open_context(root, groups, complain)
    selection = parse_selection(axis or (), context.groups)
    found = examine(context, environments, wanted, selection, timeout)
    if as_json:
        say_json(found.to_json())
    else:
        show(diagnosis.tables(found))
    sys.exit(ExitCode.FAILED if found.problems else ExitCode.PASSED)
