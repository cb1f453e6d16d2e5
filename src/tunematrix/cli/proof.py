"""Verbs that measure the suite itself: faults, regressions, and many seeds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tunematrix.cli.app import EnvironmentOption, JsonOption, app, place
from tunematrix.harness import Setting, read_setting
from tunematrix.matrix.plan import plan as make_plan
from tunematrix.paths import made, state
from tunematrix.power.catalogue import (
    CATALOGUE,
    FOLDER,
    SCORE,
    Entry,
    cells_at_once,
    discover,
    read_views,
    units_of,
)
from tunematrix.regressions.run import PATIENCE, Bench, exit_code, to_json, try_out, write
from tunematrix.regressions.table import read_regressions
from tunematrix.report import regressions as past
from tunematrix.run.process_tree import die_with_parent
from tunematrix.spec.loader import load_specs


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def faults(
    context: typer.Context,
    module: Annotated[
        list[Path] | None, typer.Option("--module", help="A Python file with faults of your own.")
    ] = None,
    environment: EnvironmentOption = "cpu",
    workers: Annotated[
        int,
        typer.Option("-n", min=0, help="How many faults at once; 0: what this machine takes."),
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Try every fault of the catalogue, and say which check notices it and what slips through.

    Everything else goes to pytest: -k NAME_OR_CLASS, -x. The score is in .tunematrix/faults.json.
    """
    setting = read_setting(Path.cwd(), environment)
    folder = state(setting.root)
    entries = discover(module or (), folder / FOLDER / CATALOGUE)
    _refuse_unseen([entry for entry in entries if entry.is_file], setting)
    arguments = ["-v", f"--environment={environment}", place(setting), *context.args]
    arguments += ["-p", "tunematrix.power.plugin", str(folder / FOLDER / CATALOGUE)]
    if (at_once := workers or cells_at_once()) > 1:
        arguments += ["-n", str(at_once), "--maxschedchunk=1"]
    command = [sys.executable, "-m", "pytest", *arguments]
    if not as_json:
        os.execv(sys.executable, command)
    before = _age(folder / SCORE)
    # Killed with this process, it would go on; interrupted with it, it has a score to write.
    process = subprocess.Popen(command, stdout=sys.stderr, preexec_fn=die_with_parent)
    try:
        process.wait()
    except KeyboardInterrupt:
        process.wait(PATIENCE)
    finally:
        process.kill()
    if (after := _age(folder / SCORE)) and after != before:
        print((folder / SCORE).read_text(encoding="utf-8"), end="")
    sys.exit(process.returncode)


def _age(file: Path) -> int | None:
    return file.stat().st_mtime_ns if file.is_file() else None


def _refuse_unseen(entries: Sequence[Entry], setting: Setting) -> None:
    """Refuse faults that name only cells that there aren't, before anything runs."""
    if entries:
        plan = make_plan(load_specs(setting.spec_folders), setting.groups, setting.environment)
        views = read_views(setting.groups)
        for entry in entries:
            units_of(entry, views, plan)


@app.command()
def regressions(
    rows: Annotated[list[str] | None, typer.Argument(help="Rows; all if none is named.")] = None,
    environment: EnvironmentOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Run the suite against releases that had real faults, and against those that mended them."""
    setting = read_setting(Path.cwd(), environment)
    found = read_regressions(setting.groups, setting.environment, rows or ())
    made(state(setting.root))
    say = partial(print, file=sys.stderr, flush=True)
    keep = partial(write, root=setting.root)
    findings = try_out(found, Bench(setting.root, environment, (place(setting),), say), keep)
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
    recipes = setting.groups.axes["recipe"]
    trained = ",".join(name for name, option in recipes.items() if option.data.get("trains"))
    # What doesn't train draws nothing that counts; the arms of relations are cells themselves.
    training = (f"--axis=recipe={trained}", "-m=not relation")
    arguments = ["-v", f"--environment={environment}", f"--seeds={seeds}", place(setting)]
    folders = [str(folder) for folder in setting.spec_folders]
    command = [sys.executable, "-m", "pytest", *arguments, *training, *context.args, *folders]
    os.execv(sys.executable, command)
