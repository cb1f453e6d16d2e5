"""Verbs of what has been recorded: showing it again, and what honest runs differ by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from tunematrix.baselines.holding import band_of
from tunematrix.baselines.kept import Baselines, read_baselines
from tunematrix.baselines.tolerances import tabulate_all, write_tolerances
from tunematrix.cli.app import EnvironmentOption, JsonOption, Verb, app
from tunematrix.cli.recorded import in_files, newest, own_configs, present
from tunematrix.errors import BadInput, counted
from tunematrix.paths import shown, state
from tunematrix.project import read_project
from tunematrix.report import terminal, verified
from tunematrix.report.rows import runs
from tunematrix.report.saying import say, say_json, show
from tunematrix.report.summary import as_summary
from tunematrix.report.tensorboard import write_runs
from tunematrix.report.writing import STANDARD_OUTPUT, write_whole
from tunematrix.results.record import Record
from tunematrix.results.store import keep


@app.command(cls=Verb)
def report(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE", help="Files of records, such as results.jsonl."),
    ] = None,
    environment: Annotated[
        list[str] | None,
        typer.Option(
            "--environment",
            "-e",
            metavar="NAME",
            help="Environment whose newest run is shown. Can be repeated.",
        ),
    ] = None,
    whole: Annotated[
        bool,
        typer.Option(
            "--all",
            "-a",
            metavar="",
            help="Show each relation and warning, and why cells are unsupported or known to fail.",
        ),
    ] = False,
    as_json: JsonOption = False,
    markdown: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write a page for a pull request or a CI run; -: standard output."
        ),
    ] = None,
    tensorboard: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write TensorBoard's event files, a run per cell."),
    ] = None,
    readme: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the README's table 'Where this has run' into FILE."
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a page into FILE: the matrix, each cell and its past.",
        ),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Copy the records of one run into a file of this folder."
        ),
    ] = None,
) -> None:
    """Show the newest run again, or the records in FILE.

    Without -e, it is that of cpu, or of the project's only environment.

    Example: tunematrix report -e cpu --all
    """
    names: Sequence[str | None] = environment or [None]
    _only_one(
        html=html,
        save=save,
        markdown=markdown,
        tensorboard=tensorboard,
        readme=readme,
        json=as_json or None,
    )
    if readme is not None and not files:
        message = "--readme needs files of records, such as docs/verified/*.jsonl"
        raise BadInput(message)
    if html is not None:
        _write_page(html, files or (), names)
        return
    # Records of files are shown anywhere, also outside the project that they were made in.
    records = in_files(files) if files else [record for name in names for record in newest(name)]
    if save is not None:
        say(f"{counted(len(records), 'record', verb=True)} in {keep(records, save)}")
    elif markdown is not None:
        write_whole(markdown, as_summary(records).encode())
    elif tensorboard is not None:
        say(f"{counted(write_runs(records, tensorboard), 'run', verb=True)} in {tensorboard}")
    elif readme is not None:
        described = read_project(Path.cwd(), names[0]).described
        _write_table(readme, verified.as_markdown(described, runs(records)))
    elif as_json:
        say_json([record.to_json() for record in records])
    else:
        show(terminal.report(records, whole=whole))


def _write_page(page: Path, files: Sequence[Path], environments: Sequence[str | None]) -> None:
    """Write a page about files of records, or about all that some environments have recorded."""
    # Every verb imports this module, and one option needs these.
    from tunematrix.report.html.page import write_page
    from tunematrix.report.html.sources import lines_of, recorded

    # Records of files are shown anywhere, so no project's baselines need apply to them.
    projects = [] if files else [read_project(Path.cwd(), name) for name in environments]
    sources = [lines_of(file) for file in present(files)] if files else []
    sources += [source for one in projects for source in recorded(one.folder, state(one.root))]
    known = {
        one.environment.name: read_baselines(one.groups.roots, one.environment.name)
        for one in projects
    }

    def bands(record: Record) -> Mapping[str, tuple[float, float]]:
        return band_of(record, known.get(record.environment, Baselines()))

    count = write_page(page, sources, bands=bands)
    if page != STANDARD_OUTPUT:
        what = "cell or relation is" if count == 1 else "cells and relations are"
        say(f"{count} {what} in {shown(page)}")


@app.command(cls=Verb)
def tolerances(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE", help="Files of records, such as results.jsonl."),
    ] = None,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record tolerances for relations, from runs under 20 seeds or more.

    Run them first: nox -s cpu -- -m relation --seeds 20. The tables are
    written to tolerances/ in the project's own config folder.

    Example: tunematrix tolerances -e cpu
    """
    project = read_project(Path.cwd(), environment)
    records = in_files(files) if files else newest(project.environment.name)
    folder = own_configs(project)
    tables = tabulate_all(records, folder)
    for table in tables:
        path = write_tolerances(table, folder, project.environment.name)
        if not as_json:
            say(f"{counted(len(table.spread), 'relation', verb=True)} in {shown(path)}")
    if as_json:
        say_json([table.model_dump(mode="json") for table in tables])


def _only_one(**asked_for: object) -> None:
    """Make sure that one view is asked for, or none, which is that of the terminal.

    Raises:
        BadInput: there are several, of which all but one would go missing.
    """
    if len(given := [f"--{name}" for name, value in asked_for.items() if value is not None]) > 1:
        message = f"{' and '.join(given)} can't be had at once; run report once for each"
        raise BadInput(message)


def _write_table(page: Path, table: str) -> None:
    """Put the table where a page has a place for it.

    Raises:
        BadInput: the page can't be read or written, or has no place for a table.
    """
    try:
        text = page.read_text(encoding="utf-8")
        page.write_text(verified.placed(table, text), encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"--readme {page}: {error}; give a page that can be written") from error
