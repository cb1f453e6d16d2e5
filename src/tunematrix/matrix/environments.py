"""pyproject.toml → environments: what Nox builds a virtualenv for, and what it computes with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunematrix.errors import BadInput, did_you_mean
from tunematrix.paths import project_root, pyproject, shown

_TEXTS = ("description", "constraints")
_LISTS = ("backends", "extras", "requires")
# Keys of a row that concern the building of the virtualenv alone.
_FOR_NOX = ("platforms", "torch_index")


@dataclass(frozen=True)
class Environment:
    """A Nox session with a virtualenv of its own.

    Attributes:
        name: of the session.
        description: one line for `nox -l`.
        backends: what computes in it.
        requires: modules whose absence fails a run in it, instead of making it smaller.
        extras: extras of the package that are installed in it.
        constraints: the lock file, relative to pyproject.toml; empty for none.
    """

    name: str
    description: str
    backends: tuple[str, ...]
    requires: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    constraints: str = ""


def read_environments(start: Path, roots: Sequence[Path]) -> Mapping[str, Environment]:
    """Return the environments of the nearest pyproject.toml at or above `start`, by name.

    Where that file has none, each backend of the config folders `roots` is one.

    Raises:
        BadInput: a row of the table is wrong; the text lists all that is.
    """
    file = project_root(start) / "pyproject.toml"
    rows = _table(file)
    if rows is None:
        files = [path for root in roots for path in sorted((root / "backend").glob("*.yaml"))]
        names = [path.stem for path in files]
        return {name: Environment(name, f"The backend {name}", (name,)) for name in names}
    problems = [text for name, row in rows.items() for text in _problems(name, row)]
    if problems:
        raise BadInput("\n".join(f"{shown(file)}: {text}" for text in problems))
    return {name: _environment(name, row) for name, row in rows.items()}


def find_environment(name: str, environments: Mapping[str, Environment]) -> Environment:
    """Return an environment by its name.

    Raises:
        BadInput: there is none of that name.
    """
    if name not in environments:
        advice = did_you_mean(name, environments)
        raise BadInput(f"{name} is not an environment; {advice}")
    return environments[name]


def _table(file: Path) -> dict[str, Any] | None:
    """Return [tool.tunematrix.environments]; None where there is no such table."""
    rows = pyproject(file.parent).get("tool", {}).get("tunematrix", {}).get("environments")
    if rows is None:
        return None
    if not isinstance(rows, dict) or not rows:
        text = "tool.tunematrix.environments: holds no environment; add one or remove it"
        raise BadInput(f"{shown(file)}: {text}")
    return rows


def _problems(name: str, row: object) -> Iterator[str]:
    route = f"tool.tunematrix.environments.{name}"
    if not isinstance(row, dict):
        yield f"{route}: is not a table; write [{route}]"
        return
    known = (*_TEXTS, *_LISTS, *_FOR_NOX)
    for key, value in row.items():
        if key not in known:
            yield f"{route}.{key}: is not a known key; {did_you_mean(key, known)}"
        elif key in _TEXTS and not isinstance(value, str):
            yield f"{route}.{key}: expected text, got {value!r}; put it in quotes"
        elif key in _LISTS and not _is_list_of_texts(value):
            yield f'{route}.{key}: expected a list of texts, got {value!r}; write ["one"]'
    if not row.get("backends"):
        yield f"{route}.backends: names no backend, so nothing could run; add one"


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _environment(name: str, row: Mapping[str, Any]) -> Environment:
    return Environment(
        name=name,
        description=row.get("description", ""),
        backends=tuple(row["backends"]),
        requires=tuple(row.get("requires", ())),
        extras=tuple(row.get("extras", ())),
        constraints=row.get("constraints", ""),
    )
