"""The verb `check`: whether configs compose, and build what they name, without training."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tunematrix.cli.app import JsonOption, Verb, app
from tunematrix.errors import ExitCode
from tunematrix.inspection.examine import STEP_SECONDS, examine
from tunematrix.inspection.view import InspectionProgress, lines
from tunematrix.paths import project_root, pytest_settings
from tunematrix.report.saying import complain, say, say_json


@app.command(cls=Verb)
def check(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PATH",
            help="Configs or folders; default: tunematrix_check in pyproject.toml, or this folder.",
        ),
    ] = None,
    instantiate: Annotated[
        bool,
        typer.Option("--instantiate", metavar="", help="Also build the objects that configs name."),
    ] = False,
    forward: Annotated[
        bool,
        typer.Option("--forward", metavar="", help="Also run each model once, on the CPU."),
    ] = False,
    notes: Annotated[
        bool,
        typer.Option("--notes", metavar="", help="Also show what is still missing, such as ???."),
    ] = False,
    timeout: Annotated[
        int, typer.Option(min=1, metavar="SECONDS", help="Time limit of one import or object.")
    ] = int(STEP_SECONDS),
    as_json: JsonOption = False,
) -> None:
    """Check Hydra configs and plain YAML without training.

    Each config is composed, its interpolations are resolved, its _target_
    names imported, and their arguments compared with the signature. Prints a
    line for each config, and each error with its file and line.

    Example: tunematrix check conf
    Example: tunematrix check conf/model --forward
    """
    reports = examine(
        paths or _configured(),
        instantiate=instantiate,
        forward=forward,
        progress=InspectionProgress(complain),
        step_seconds=timeout,
    )
    if as_json:
        say_json([report.to_json() for report in reports])
    else:
        say("\n".join(lines(reports, notes=notes)))
    is_good = all(report.outcome == "passed" for report in reports)
    sys.exit(ExitCode.PASSED if is_good else ExitCode.FAILED)


def _configured() -> list[Path]:
    """Return the folders that the project configures, or this one."""
    root = project_root(Path.cwd())
    return [root / name for name in pytest_settings(root).get("tunematrix_check", ())] or [Path()]
