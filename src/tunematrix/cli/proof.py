"""Verbs that measure the suite itself: faults, regressions, and many seeds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tunematrix.cli.app import EnvironmentOption, JsonOption, app, place
from tunematrix.harness import read_setting
from tunematrix.paths import state
from tunematrix.power.catalogue import CATALOGUE, FOLDER, SCORE, cells_at_once, discover
from tunematrix.regressions.run import Bench, exit_code, to_json, try_out, write
from tunematrix.regressions.table import read_regressions
from tunematrix.report import regressions as past

TRAINING = ("--axis=recipe=sft,dpo", "-m=not relation")
"""The cells that a seed could change; arms of relations are the same ones."""


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def faults(
    context: typer.Context,
    module: Annotated[
        list[Path] | None, typer.Option("--module", help="A Python file with faults of your own.")
    ] = None,
    environment: EnvironmentOption = "cpu",
    workers: Annotated[
        int, typer.Option("-n", help="How many faults to try at once; 0: what this machine takes.")
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Try every fault of the catalogue, and say which check notices it and what slips through.

    Everything else goes to pytest: -k NAME_OR_CLASS, -x. The score is in .tunematrix/faults.json.
    """
    setting = read_setting(Path.cwd(), environment)
    folder = state(setting.root)
    discover(module or (), folder / FOLDER / CATALOGUE)
    arguments = ["-v", f"--environment={environment}", place(setting), *context.args]
    arguments += ["-p", "tunematrix.power.plugin", str(folder / FOLDER / CATALOGUE)]
    if (at_once := workers or cells_at_once()) > 1:
        arguments += ["-n", str(at_once), "--maxschedchunk=1"]
    command = [sys.executable, "-m", "pytest", *arguments]
    if not as_json:
        os.execv(sys.executable, command)
    end = subprocess.run(command, stdout=sys.stderr, check=False)
    if (score := folder / SCORE).is_file():
        print(score.read_text(encoding="utf-8"), end="")
    sys.exit(end.returncode)


@app.command()
def regressions(
    rows: Annotated[list[str] | None, typer.Argument(help="Rows; all if none is named.")] = None,
    environment: EnvironmentOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Run the suite against releases that had real faults, and against those that mended them."""
    setting = read_setting(Path.cwd(), environment)
    found = read_regressions(setting.groups, setting.environment, rows or ())
    say = partial(print, file=sys.stderr, flush=True)
    findings = try_out(found, Bench(setting.root, environment, (place(setting),), say))
    write(findings, setting.root)
    if as_json:
        print(json.dumps(to_json(findings), indent=2))
    else:
        Console().print(past.tables(findings))
    sys.exit(exit_code(findings))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def soak(
    context: typer.Context,
    seeds: Annotated[int, typer.Argument(min=1, help="How many.")] = 20,
    environment: EnvironmentOption = "cpu",
) -> None:
    """Train every cell under many seeds: no outcome may depend on one.

    Everything else goes to pytest: -k, -n 2. The table shows how near each check came to its bound
    in the worst run; .tunematrix/soak.json holds the same.
    """
    setting = read_setting(Path.cwd(), environment)
    arguments = ["-v", f"--environment={environment}", f"--seeds={seeds}", place(setting)]
    folders = [str(folder) for folder in setting.spec_folders]
    command = [sys.executable, "-m", "pytest", *arguments, *TRAINING, *context.args, *folders]
    os.execv(sys.executable, command)
