"""One thing that is wrong in a file, and where: collected first, shown all together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from tunematrix.errors import BadInput, counted
from tunematrix.paths import shown

Route: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """Something in a file that has to be corrected.

    Attributes:
        file: where it stands; None for what was built in Python.
        line: from 1; None where the file as a whole is meant.
        route: keys and list positions from the top of the file to the entry.
        text: what is wrong and, after a semicolon, what to do about it.
    """

    file: Path | None
    line: int | None
    route: Route
    text: str

    def __str__(self) -> str:
        parts = [place(self.file, self.line)]
        if self.route:
            parts.append(dotted(self.route))
        return ": ".join([*parts, self.text])


def place(file: Path | None, line: int | None) -> str:
    """Return `file:line` as editors and terminals understand it."""
    if file is None:
        return "<python>"
    return shown(file) if line is None else f"{shown(file)}:{line}"


def dotted(route: Route) -> str:
    """Return a route as text: `known_failures[0].when.backend`."""
    text = ""
    for part in route:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def route_of(text: str) -> Route:
    """Return the route that a text such as `a.b[0].c` stands for, as `dotted` writes it."""
    route: list[str | int] = []
    for part in text.replace("[", ".[").split("."):
        if part.startswith("[") and part[1:-1].isdigit():
            route.append(int(part[1:-1]))
        elif part:
            route.append(part.strip("[]"))
    return tuple(route)


def refuse(problems: Iterable[Problem]) -> None:
    """Raise one error that lists every problem, in the order of files and lines.

    Raises:
        BadInput: there is at least one problem.
    """
    unique = dict.fromkeys(problems)
    if not unique:
        return
    ordered = sorted(unique, key=lambda problem: (str(problem.file), problem.line or 0))
    count = counted(len(ordered), "problem")
    raise BadInput("\n".join([f"{count} to correct:", *map(str, ordered)]))
