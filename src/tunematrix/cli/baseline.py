"""Verbs of what honest runs give: `baseline record`, `diff` and `update`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from tunematrix.baselines.comparing import band_changes
from tunematrix.baselines.interval import CONFIDENCE, COVERAGE, LEAST_RUNS
from tunematrix.baselines.kept import read_baselines, write_baseline
from tunematrix.baselines.model import Baseline, MarginBands, ToleranceBands
from tunematrix.baselines.recording import BandWish, applied_cells, blind, measure, merged
from tunematrix.checks.verdict import listed
from tunematrix.cli.app import (
    PASSES_ON,
    EnvironmentOption,
    JsonOption,
    Verb,
    Verbs,
    app,
    place,
)
from tunematrix.cli.recorded import in_files, newest, own_configs
from tunematrix.errors import BadInput, StepFailed, counted, did_you_mean
from tunematrix.paths import shown
from tunematrix.project import Project, read_project
from tunematrix.report.bands import changed_bands
from tunematrix.report.saying import say, say_json, show
from tunematrix.results.record import Record

verbs = typer.Typer(
    cls=Verbs,
    help="What each figure of each cell is in correct runs: record it, compare it, update it.",
    no_args_is_help=True,
)
app.add_typer(verbs, name="baseline")

FromOption: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option("--from", metavar="FILE", help="Take the runs in FILE. Can be repeated."),
]
MarginOption: TypeAlias = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="Take what was seen and a share more, such as 0.25; one run is enough.",
    ),
]
CoverageOption: TypeAlias = Annotated[
    float, typer.Option(metavar="SHARE", help="Share of correct runs that a band is to hold.")
]


@verbs.command(
    cls=Verb,
    options_metavar="[OPTIONS] [PYTEST_ARGUMENT]...",
    context_settings=PASSES_ON,
)
def record(
    context: typer.Context,
    environment: EnvironmentOption = None,
    source: FromOption = None,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="First run the cells, under N seeds each."),
    ] = None,
    margin: MarginOption = None,
    coverage: CoverageOption = COVERAGE,
) -> None:
    """Record bands of cells' figures, from runs under 20 seeds or more.

    Takes the newest run; with --seeds, one that it begins, and other
    arguments go to pytest: -m smoke, -k hqq-int4, spec files. Cells that
    have bands already keep them; update replaces those that it is given.

    Example: tunematrix baseline record -e cpu --seeds 20 -m smoke
    """
    project = read_project(Path.cwd(), environment)
    folder = own_configs(project)
    wish = BandWish(_kind(margin, coverage), project.environment.name)
    if context.args and seeds is None:
        raise BadInput(f"{' '.join(context.args)}: only a run takes that; add --seeds {LEAST_RUNS}")
    if seeds is not None:
        _run(project, seeds, context.args)
    for new in measure(_records(project, source), wish):
        old = _known(folder, new)
        kept = applied_cells(old, new)
        added = new.without(kept)
        if added.cells:
            path = write_baseline(merged(old, added), folder)
            say(f"{counted(len(added.cells), 'cell')} recorded in {shown(path)}")
            _tell_blind(added)
        if kept:
            text = f"{counted(len(kept), 'cell')} had bands already, which stay"
            advice = (
                "tunematrix baseline diff compares them, and update replaces those that it is given"
            )
            say(f"{text}: {advice}")


@verbs.command(cls=Verb)
def diff(
    environment: EnvironmentOption = None,
    source: FromOption = None,
    margin: MarginOption = None,
    coverage: CoverageOption = COVERAGE,
    as_json: JsonOption = False,
) -> None:
    """Show what recording again would change, and write nothing.

    Example: tunematrix baseline diff -e cpu
    """
    project = read_project(Path.cwd(), environment)
    folder = own_configs(project)
    wish = BandWish(_kind(margin, coverage), project.environment.name)
    found = [
        change
        for new in measure(_records(project, source), wish)
        for change in band_changes(_known(folder, new), new)
    ]
    if as_json:
        say_json([change.to_json() for change in found])
    else:
        show(changed_bands(found))


@verbs.command(cls=Verb)
def update(
    cells: Annotated[list[str], typer.Argument(metavar="CELL", help="Ids of cells.")],
    environment: EnvironmentOption = None,
    source: FromOption = None,
    margin: MarginOption = None,
    coverage: CoverageOption = COVERAGE,
) -> None:
    """Replace the bands of the cells that are named, and no others.

    Example: tunematrix baseline update "lora[cpu-lora-none]" -e cpu
    """
    project = read_project(Path.cwd(), environment)
    folder = own_configs(project)
    records = _records(project, source)
    _refuse_absent(cells, {record.base_id for record in records if not record.arms})
    wish = BandWish(_kind(margin, coverage), project.environment.name, frozenset(cells))
    for new in measure(records, wish):
        path = write_baseline(merged(_known(folder, new), new), folder)
        say(f"{counted(len(new.cells), 'cell')} replaced in {shown(path)}")
        _tell_blind(new)


def _records(project: Project, files: Sequence[Path] | None) -> list[Record]:
    return in_files(files) if files else newest(project.environment.name)


def _kind(margin: float | None, coverage: float) -> ToleranceBands | MarginBands:
    if margin is not None:
        if not 0 < margin < float("inf"):
            raise BadInput(f"--margin {margin}: expected a share above 0, such as 0.25")
        return MarginBands(kind="margin", share=margin)
    if not 0 < coverage < 1:
        raise BadInput(f"--coverage {coverage}: expected a share between 0 and 1, such as 0.999")
    return ToleranceBands(kind="tolerance", coverage=coverage, confidence=CONFIDENCE)


def _known(folder: Path, new: Baseline) -> Baseline | None:
    return read_baselines([folder], new.environment).known.get(new.place)


def _run(project: Project, seeds: int, arguments: Sequence[str]) -> None:
    """Run the project's cells under seeds, each in its place.

    Raises:
        StepFailed: some failed, or none ran.
    """
    command = [sys.executable, "-m", "pytest", "-v", place(project), f"--seeds={seeds}"]
    command += [f"--environment={project.environment.name}", *arguments]
    if not any(Path(argument).exists() for argument in arguments):
        command += [str(folder) for folder in project.spec_folders]
    code = subprocess.run(command, check=False).returncode
    if code:
        message = f"no baseline is recorded: the run ended with exit code {code}; see above"
        raise StepFailed(message)


def _tell_blind(new: Baseline) -> None:
    found = [f"{cell} {metric}" for cell, metric in blind(new)]
    if found:
        text = f"a doubling of these would go unnoticed, since they vary too much: {listed(found)}"
        say(f"{text}; train longer, or record more runs")


def _refuse_absent(cells: Collection[str], known: Collection[str]) -> None:
    for cell in cells:
        if cell not in known:
            raise BadInput(f"these runs have no cell {cell}; {did_you_mean(cell, known)}")
