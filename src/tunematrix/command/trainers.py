"""pyproject.toml → trainers; everything that is wrong is reported at once, with its line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from tunematrix.configuration.trainer import Trainer
from tunematrix.paths import pyproject
from tunematrix.spec.explain import findings
from tunematrix.spec.problems import Problem, Route, refuse

TABLE = ("tool", "tunematrix", "trainers")
"""Where trainers stand in pyproject.toml."""
_HEADER = re.compile(r"^\s*\[+([^\]]+)\]+\s*(?:#.*)?$")
_PART = r"""(?:[\w-]+|"[^"]*"|'[^']*')"""
_KEY = re.compile(rf"^\s*({_PART}(?:\s*\.\s*{_PART})*)\s*=")


def read_trainers(root: Path) -> Mapping[str, Trainer]:
    """Return the trainers of a project, by name; none where it configures none.

    Raises:
        BadInput: something is wrong with one; the text lists all of it with file and line.
    """
    file = root / "pyproject.toml"
    rows: object = pyproject(root)
    for key in TABLE:
        rows = rows.get(key, {}) if isinstance(rows, dict) else rows
    if not rows:
        return {}
    lines = key_lines(file.read_text(encoding="utf-8"))

    def problem(route: Route, text: str) -> Problem:
        return Problem(file, _line(lines, (*TABLE, *route)), (*TABLE, *route), text)

    if not isinstance(rows, dict):
        refuse([problem((), "is not a table; write [tool.tunematrix.trainers.NAME]")])
        return {}
    trainers: dict[str, Trainer] = {}
    problems: list[Problem] = []
    for name, row in rows.items():
        if not isinstance(row, dict):
            problems.append(problem((name,), "is not a table; write its keys below its name"))
            continue
        try:
            trainers[name] = Trainer.model_validate(row)
        except ValidationError as error:
            found = findings(Trainer, error)
            problems += [problem((name, *one.route), one.text) for one in found]
    refuse(problems)
    return trainers


def key_lines(text: str) -> dict[Route, int]:
    """Return the line of each table and key of a TOML text that is written in the usual way.

    Keys inside inline tables and lists have the line of what they stand in.
    """
    lines: dict[Route, int] = {}
    table: Route = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = _parts(header[1])
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            lines.setdefault((*table, *_parts(key[1])), number)
    return lines


def _parts(dotted: str) -> Route:
    found = re.findall(_PART, dotted)
    return tuple(part.strip("\"'") for part in found)


def _line(lines: Mapping[Route, int], route: Route) -> int:
    while route and route not in lines:
        route = route[:-1]
    return lines.get(route, 1)
