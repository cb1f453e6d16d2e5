"""Verbs that measure the suite itself: faults, regressions, soak."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from tunematrix.cli.app import PASSES_ON, EnvironmentOption, JsonOption, Verb, app, place
from tunematrix.errors import BadInput
from tunematrix.matrix.plan import plan as make_plan
from tunematrix.paths import made, state
from tunematrix.project import Project, read_project
from tunematrix.proof.faults.catalogue import (
    CATALOGUE,
    FOLDER,
    SCORE,
    Entry,
    Views,
    cells_at_once,
    discover,
    read_views,
    units_of,
)
from tunematrix.proof.releases import view as past
from tunematrix.proof.releases.table import read_regressions
from tunematrix.proof.releases.trials import (
    ReleaseRunner,
    exit_code,
    to_json,
    try_out,
    write,
)
from tunematrix.proof.soak.variations import VARIED, write_variations
from tunematrix.report.saying import complain, say, say_json, show
from tunematrix.run.local.process_tree import die_with_parent
from tunematrix.spec.loader import load_specs
from tunematrix.versions.trials import PATIENCE

PANEL = "Measure the suite itself"
SEEDS = 20
"""Title under which `--help` lists these verbs."""


@app.command(
    cls=Verb,
    rich_help_panel=PANEL,
    options_metavar="[OPTIONS] [PYTEST_ARGUMENT]...",
    context_settings=PASSES_ON,
)
def faults(
    context: typer.Context,
    module: Annotated[
        list[Path] | None,
        typer.Option("--module", metavar="FILE", help="Python file with faults of your own."),
    ] = None,
    catalogue: Annotated[
        Path | None,
        typer.Option(
            "--catalogue", metavar="FILE", help="YAML file of another catalogue, tried alone."
        ),
    ] = None,
    environment: EnvironmentOption = None,
    workers: Annotated[
        int,
        typer.Option("-n", min=0, metavar="N", help="Faults tried at once; 0: as many as fit."),
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Break the stack on purpose, and show which check notices.

    Tries every fault of the catalogue: small, deliberate errors in the
    stack. The score is in .tunematrix/faults.json. Other arguments go to
    pytest: -k NAME_OR_CLASS, -x.

    Example: tunematrix faults -k gradients
    """
    project = read_project(Path.cwd(), environment)
    folder = state(project.root)
    views = read_views(project.groups, catalogue)
    entries = discover(module or (), folder / FOLDER / CATALOGUE, views.modules)
    _refuse_unseen([entry for entry in entries if entry.is_file], views, project)
    arguments = ["-v", f"--environment={project.environment.name}", place(project), *context.args]
    arguments += ["-p", "tunematrix.proof.faults.plugin", str(folder / FOLDER / CATALOGUE)]
    if catalogue is not None:
        arguments.append(f"--fault-table={catalogue.resolve()}")
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
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()  # or it would have no exit code, and ours would be 0
    if (after := _age(folder / SCORE)) and after != before:
        say((folder / SCORE).read_text(encoding="utf-8"), end="")
    sys.exit(process.returncode)


def _age(file: Path) -> int | None:
    return file.stat().st_mtime_ns if file.is_file() else None


def _refuse_unseen(entries: Sequence[Entry], views: Views, project: Project) -> None:
    """Refuse faults that name only cells that there aren't, before anything runs."""
    if entries:
        plan = make_plan(load_specs(project.spec_folders), project.groups, project.environment)
        for entry in entries:
            units_of(entry, views, plan)


@app.command(cls=Verb, rich_help_panel=PANEL)
def regressions(
    rows: Annotated[
        list[str] | None,
        typer.Argument(metavar="ROW", help="Rows of the table, such as R4; default: all."),
    ] = None,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the checks against old releases with known bugs, and against their fixes.

    The rows are in configs/regressions/table.yaml. Each pins a faulty and
    a fixed release. Installs packages into .tunematrix/overlays/ once.

    Example: tunematrix regressions R1 R4
    """
    project = read_project(Path.cwd(), environment)
    found = read_regressions(project.groups, project.environment, rows or ())
    made(state(project.root))
    keep = partial(write, root=project.root)
    runner = ReleaseRunner(project.root, project.environment.name, (place(project),), complain)
    findings = try_out(found, runner, keep)
    if as_json:
        say_json(to_json(findings))
    else:
        show(past.tables(findings))
    sys.exit(exit_code(findings))


@app.command(
    cls=Verb,
    rich_help_panel=PANEL,
    options_metavar="[OPTIONS] [PYTEST_ARGUMENT]...",
    context_settings=PASSES_ON,
)
def soak(
    context: typer.Context,
    seeds: Annotated[
        str, typer.Argument(metavar="SEEDS", help="Number of seeds, before all others.")
    ] = str(SEEDS),
    vary: Annotated[
        int,
        typer.Option(
            "--vary", min=0, metavar="N", help="In place of that, N cells of honest settings."
        ),
    ] = 0,
    environment: EnvironmentOption = None,
) -> None:
    """Train every cell under many seeds; no outcome may depend on the seed.

    With --vary, cells with models, methods and settings drawn at random
    (always the same); nothing is wrong with them, so none may fail.

    Shows how near each check came to its bound in the worst run. The same
    is in .tunematrix/soak.json. Other arguments go to pytest: -k, -n 2.

    Example: tunematrix soak 5 -k hqq-int4
    Example: tunematrix soak --vary 200
    """
    count, others = _seeds(seeds, context.args)
    project = read_project(Path.cwd(), environment)
    recipes = project.groups.axes["recipe"]
    trained = ",".join(name for name in recipes if project.groups.recipe(name).trains)
    folders = [str(folder) for folder in project.spec_folders]
    run = [sys.executable, "-m", "pytest", "-v", f"--environment={project.environment.name}"]
    run += [place(project), "-p", "tunematrix.proof.soak.plugin"]
    if vary:
        folder = write_variations(project, made(state(project.root) / VARIED), vary)
        os.execv(
            sys.executable,
            [*run, f"--override-ini=tunematrix_specs={folder}", *others, str(folder)],
        )
    # Only training depends on the seed; the arms of relations are run as cells.
    training = (f"--axis=recipe={trained}", "-m=not relation")
    os.execv(sys.executable, [*run, f"--seeds={count}", *training, *others, *folders])


def _seeds(text: str, others: Sequence[str]) -> tuple[int, list[str]]:
    """Return how many seeds, and what pytest gets: its first argument, where no number was given.

    Raises:
        BadInput: it is neither a number nor an option.
    """
    if text.startswith("-"):
        return SEEDS, [text, *others]
    if not text.isdecimal() or int(text) < 1:
        why = "is no number of seeds, from 1; it comes before pytest's own arguments"
        raise BadInput(f"{text}: {why}: tunematrix soak 5 -k hqq-int4")
    return int(text), list(others)
