"""Verbs of what has been recorded: showing it again, and what honest runs differ by."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tunematrix.cli.app import EnvironmentOption, JsonOption, app
from tunematrix.errors import BadInput, NothingTested
from tunematrix.harness import Setting, read_setting
from tunematrix.paths import shipped_configs, shown
from tunematrix.report import terminal, verified
from tunematrix.results.record import Record
from tunematrix.results.store import Store, keep, newest_run
from tunematrix.results.tolerances import tabulate_all, write_tolerances


@app.command()
def report(
    files: Annotated[list[Path] | None, typer.Argument(help="Files of records.")] = None,
    environment: EnvironmentOption = "cpu",
    as_json: JsonOption = False,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write where they come from into it.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Keep them in a file there.")
    ] = None,
) -> None:
    """Show records again: those of the newest run, or all that some files hold."""
    setting = read_setting(Path.cwd(), environment)
    if markdown is not None and not files:
        message = "--markdown takes committed records: name their files"
        raise BadInput(message)
    records = _records(files, setting)
    if save is not None:
        print(f"{len(records)} records are in {keep(records, save)}")
    elif markdown is not None:
        table = verified.as_markdown(setting.described, verified.verified_runs(records))
        markdown.write_text(verified.placed(table, markdown.read_text("utf-8")), "utf-8")
    elif as_json:
        print(json.dumps([record.to_json() for record in records], indent=2))
    else:
        Console().print(terminal.summary(records))


@app.command()
def tolerances(
    files: Annotated[list[Path] | None, typer.Argument(help="Files of records.")] = None,
    environment: EnvironmentOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Write down what honest runs differ by, from relations that were run under 20 seeds or more.

    Run them first: nox -s cpu -- -m relation --seeds 20.
    """
    setting = read_setting(Path.cwd(), environment)
    records = _records(files, setting)
    folder, root = setting.groups.roots[-1].resolve(), setting.root.resolve()
    is_shipped = folder == shipped_configs().resolve() != root / "configs"
    if is_shipped or not folder.is_relative_to(root):
        message = "the project has no config folder of its own; name one in tunematrix_configs"
        raise BadInput(message)
    tables = tabulate_all(records, folder)
    for table in tables:
        path = write_tolerances(table, folder, environment)
        if not as_json:
            print(f"{len(table.spread)} relations are in {shown(path)}")
    if as_json:
        print(json.dumps([table.model_dump(mode="json") for table in tables], indent=2))


def _records(files: Sequence[Path] | None, setting: Setting) -> list[Record]:
    """Read the records of the newest run, or all that some files hold."""
    if absent := [str(file) for file in files or () if not file.is_file()]:
        message = f"there is no file {', '.join(absent)}; give files of records"
        raise BadInput(message)
    stores = [Store(file) for file in files or [setting.folder / "results.jsonl"]]
    records = [record for store in stores for record in store.read()]
    if not records:
        message = f"{stores[0].path} has no record yet; run nox -s {setting.environment.name}"
        raise NothingTested(message)
    return records if files else list(newest_run(records))
