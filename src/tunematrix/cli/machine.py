"""The verb of this machine: what it can do, and why not the rest."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tunematrix.cli.app import AxisOption, JsonOption, app
from tunematrix.doctor.examine import examine
from tunematrix.doctor.trials import Laboratory
from tunematrix.environments.table import find_environment, read_environments
from tunematrix.errors import ExitCode
from tunematrix.harness import config_roots, pytest_settings
from tunematrix.matrix.groups import read_groups
from tunematrix.matrix.select import parse_selection
from tunematrix.paths import project_root
from tunematrix.report import doctor as diagnosis


@app.command()
def doctor(
    environment: Annotated[
        str, typer.Option("--environment", "-e", help="Look at it alone; all of it must work.")
    ] = "",
    axis: AxisOption = None,
    timeout: Annotated[int, typer.Option(min=1, help="Seconds that each trial may take.")] = 120,
    as_json: JsonOption = False,
) -> None:
    """Find out what this machine can do, and why it can't do the rest.

    Looks at environments, backends and quantizers, and tries what is installed in real, small
    runs. Without --environment it ends with 0 whatever it finds.
    """
    root = project_root(Path.cwd())
    roots = config_roots(root, pytest_settings(root))
    environments = read_environments(root, roots)
    wanted = find_environment(environment, environments) if environment else None
    laboratory = Laboratory(root, read_groups(roots), timeout, _show_progress)
    selection = parse_selection(axis or (), laboratory.groups)
    found = examine(laboratory, environments, wanted, selection)
    if as_json:
        print(json.dumps(found.to_json(), indent=2))
    else:
        Console().print(diagnosis.tables(found))
    sys.exit(ExitCode.FAILED if found.problems else ExitCode.PASSED)


def _show_progress(line: str) -> None:
    """Tell someone who waits what is being done; a log, or a program, isn't told."""
    if sys.stderr.isatty():
        print(line, file=sys.stderr)
