"""The verb of what has been recorded over time, here and elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from tunematrix.cli.app import JsonOption, Verb, app
from tunematrix.cli.recorded import present
from tunematrix.errors import BadInput, MachineProblem, NothingTested, counted, did_you_mean
from tunematrix.paths import shown, state
from tunematrix.project import read_project
from tunematrix.report import past, past_terminal
from tunematrix.report.saying import complain, say, say_json, show
from tunematrix.results.history import History
from tunematrix.results.run_line import RunLine

NEWEST = 20
"""Runs that are listed unless all are asked for."""


@app.command(cls=Verb)
def history(
    cell: Annotated[
        str | None,
        typer.Argument(metavar="CELL", help="A cell's id, or a part of it: how it has fared."),
    ] = None,
    add: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Take in records of another machine first. Can be repeated."
        ),
    ] = None,
    between: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="RUN RUN", help="Show what differs between two runs, older first."),
    ] = None,
    environment: Annotated[
        str | None,
        typer.Option("--environment", "-e", metavar="NAME", help="Only this environment."),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--all", "-a", metavar="", help="List all runs, not the newest alone.")
    ] = False,
    export: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write all records into FILE, as lines of JSON."),
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The history; default: .tunematrix/history.sqlite."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List all runs, how a cell has fared, or what differs between two runs.

    What this project has recorded is taken in each time. Records of other
    machines stay once they have been added.

    Example: tunematrix history 'lora[cpu-lora-hqq-int4]'
    """
    added = present(add) if add else ()
    root = read_project(Path.cwd(), None).root
    with History(store or state(root) / "history.sqlite") as records:
        poured = records.pour([*sorted(state(root).glob("*/results.jsonl")), *added])
        if add:
            complain(f"{counted(poured.new, 'new record')}, {poured.known} known already")
        if export is not None:
            _export(records, export)
        elif between is not None:
            _show_between(records, between, environment, as_json=as_json)
        elif cell is not None:
            _show_cell(records, cell, environment, as_json=as_json)
        else:
            _show_runs(records, environment, whole=whole, as_json=as_json)


def _show_runs(records: History, environment: str | None, *, whole: bool, as_json: bool) -> None:
    lines = _runs(records, environment)
    if as_json:
        say_json([line.to_json() for line in lines])
        return
    kept = lines if whole else lines[-NEWEST:]
    show(past_terminal.overview(kept))
    if len(kept) < len(lines):
        left = len(lines) - len(kept)
        say(f"{counted(left, 'older run', verb=True)} left out; --all lists them")


def _show_cell(records: History, cell: str, environment: str | None, *, as_json: bool) -> None:
    found = records.cells(cell, environment)
    if not found:
        known = records.ids(environment)
        message = f"no record of a cell with {cell} in its id; {did_you_mean(cell, known)}"
        raise NothingTested(message)
    parted = past.threads(found)
    if as_json:
        say_json([_plain(thread, each) for thread, each in parted.items()])
    else:
        show(past_terminal.story(parted))


def _show_between(
    records: History, between: tuple[str, str], environment: str | None, *, as_json: bool
) -> None:
    lines = _runs(records, environment)
    before, after = (_named(name, lines) for name in between)
    sides = [records.run(line.run_id, line.environment) for line in (before, after)]
    found = past.compared(*sides)
    if as_json:
        say_json(asdict(found))
    else:
        show(past_terminal.side_by_side(before, after, found))


def _runs(records: History, environment: str | None) -> Sequence[RunLine]:
    lines = [line for line in records.runs() if environment in (None, line.environment)]
    if not lines:
        where = f" of {environment}" if environment else ""
        raise NothingTested(f"there is no record{where} yet; run nox -s {environment or 'cpu'}")
    return lines


def _named(name: str, lines: Sequence[RunLine]) -> RunLine:
    """Return the run whose id begins so; where several do, all have to be of one."""
    found = [line for line in lines if line.run_id.startswith(name)]
    if not found:
        known = [line.run_id for line in lines]
        raise BadInput(f"no run is called {name}; {did_you_mean(name, known)}")
    if len(found) > 1:
        each = ", ".join(f"{line.run_id} ({line.environment})" for line in found)
        raise BadInput(f"{name} may be {each}; give the whole id, and -e ENVIRONMENT")
    return found[0]


def _export(records: History, path: Path) -> None:
    count = 0
    try:
        with path.open("wb") as file:
            for line in records.lines():
                file.write(line + b"\n")
                count += 1
    except OSError as error:
        message = f"can't write {path}: {error.strerror}; name another file"
        raise MachineProblem(message) from error
    say(f"{counted(count, 'record', verb=True)} in {shown(path)}")


def _plain(thread: past.Thread, stretches: Sequence[past.Stretch]) -> dict[str, Any]:
    return {
        **thread._asdict(),
        "flaky": [[one.before.run_id, one.after.run_id] for one in past.flakes(stretches)],
        "stretches": [
            {
                "outcome": stretch.outcome,
                "reason": stretch.last.reason,
                "runs": [record.run_id for record in stretch.records],
                "since": [one._asdict() for one in stretch.since],
            }
            for stretch in stretches
        ],
    }
