"""Verbs over sets of package versions: bisect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunematrix.checks.vocabulary import unknown_check
from tunematrix.cli.app import EnvironmentOption, JsonOption, Verb, app, place
from tunematrix.errors import BadInput
from tunematrix.project import read_project
from tunematrix.proof.releases.released import links_of
from tunematrix.report.saying import complain, say, say_json
from tunematrix.results.store import Store
from tunematrix.versions.asked import read_asked
from tunematrix.versions.between import End
from tunematrix.versions.bisecting import bisect as find
from tunematrix.versions.found import Bisection
from tunematrix.versions.judging import SetJudge
from tunematrix.versions.points import Point, find_points
from tunematrix.versions.resolving import resolved
from tunematrix.versions.sets import beneath
from tunematrix.versions.trials import Bench
from tunematrix.versions.view import FoundHere, as_text, command, to_json


@app.command(cls=Verb)
def bisect(
    item: Annotated[
        str, typer.Argument(metavar="ITEM", help="Cell or relation, as plan lists it, or FILE::ID.")
    ],
    good: Annotated[
        str, typer.Option(metavar="SET", help="Where it works; default: where it last passed.")
    ] = "",
    bad: Annotated[
        str, typer.Option(metavar="SET", help="Where it fails; default: the environment.")
    ] = "",
    check: Annotated[
        str, typer.Option(metavar="NAME", help="Only this check decides what is bad.")
    ] = "",
    repeat: Annotated[
        int, typer.Option(min=1, metavar="N", help="Runs of each set; one failure makes it bad.")
    ] = 1,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the package release that broke a cell, or that mended it.

    A SET is a day (2025-06-30), a lock, PACKAGE==VERSION,… over the
    environment, a Python, or the environment's name. What is known is not
    run again: an interrupted search goes on where it was.

    Example: tunematrix bisect "lora[cpu-lora-none]" --good 2026-01-31
    """
    project = read_project(Path.cwd(), environment)
    if check and (problem := unknown_check(check)):
        raise BadInput(f"--check: {problem}")
    (point, *others) = find_points([item], project)
    if others:
        text = f"{item} holds {len(others) + 1} cells and relations, and one is bisected"
        raise BadInput(f"{text}; name one of them, such as {point.node}")
    below = beneath(project.environment)
    bench = Bench(project, below, (place(project),), complain)
    ends = _end("good", good or _last_good(point, bench), bench), _end("bad", bad, bench)
    told = list[FoundHere]()
    try:
        for found in find(*ends, SetJudge(bench, point, check, repeat), bench.index):
            sides = (command(one, bench, point.node) for one in (found.good, found.bad))
            told.append(FoundHere(found, (next(sides), next(sides)), _links(found, bench)))
            if not as_json:
                say(as_text(told[-1], point.id))
    finally:  # what has been found is told even if what else fails can't be
        if as_json and told:
            say_json(to_json(told, point.id))


def _end(name: str, text: str, bench: Bench) -> End:
    """Return an end as it is asked for; with an empty text, the environment as it is.

    Raises:
        BadInput: no set is called so, or it can't be had.
    """
    environment = bench.project.environment.name
    text = text or environment
    asked = read_asked(text, environment)
    bench.say(f"{name} end: {text}")
    return End(asked, resolved(asked, bench.below, text))


def _last_good(point: Point, bench: Bench) -> str:
    """Return the set with other versions than now with which a point passed last, by its records.

    Raises:
        BadInput: it has none.
    """
    now, fixed = bench.below.packages.versions, bench.below.fixed
    for record in reversed(Store(bench.project.folder / "results.jsonl").read()):
        if record.cell_id == point.id and record.outcome == "passed":
            other = {n: v for n, v in record.versions.items() if now.get(n, v) != v}
            if pins := {n: v for n, v in other.items() if n not in fixed}:
                return ",".join(f"{name}=={version}" for name, version in sorted(pins.items()))
    text = f"{point.id} has no record here that passed with other versions than now"
    raise BadInput(f"{text}; name a set with --good, such as a day: --good 2026-01-31")


def _links(found: Bisection, bench: Bench) -> list[str]:
    have, signature = bench.below.packages.versions, found.signature.signature
    shows = found.checks or ((signature.raised,) if signature else ())
    links = (
        link
        for one in found.culprits
        if one.last_good and one.first_bad
        for link in links_of(
            one.name, one.last_good, one.first_bad, shows, bench.project.groups, have
        )
    )
    return list(dict.fromkeys(links))
