"""Tables in TOML → environments: what Nox builds a virtualenv for, and what it computes with."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from tunematrix.environments.host import Probe
from tunematrix.errors import BadInput, did_you_mean
from tunematrix.paths import project_root, shipped_constraints, shown, tool_table

DEFAULT = "cpu"
"""The environment that is meant where none is named, if there is one of that name."""

WATCHED = "watch"
"""What isn't an environment: where the records of commands lie that were watched."""

JOINT = "+"
"""Stands between the names of environments that are joined, in the name of the folder too."""

Variant: TypeAlias = Literal["locked", "lowest", "latest", "yours"]

VARIANTS: tuple[Variant, ...] = ("lowest", "latest")
"""Each environment has these beside its locked self, as cpu has cpu-lowest and cpu-latest."""

YOURS: Variant = "yours"
"""A variant with versions that a user has; `tunematrix prove` alone runs it, as cpu-yours."""


@dataclass(frozen=True)
class Environment:
    """A Nox session with a virtualenv of its own.

    Attributes:
        name: of the session.
        description: one line for `nox -l`.
        backends: what computes in it.
        requires: modules whose absence fails a run in it, instead of making it smaller.
        extras: extras of tunematrix that are installed in it.
        packages: what else is installed in it, such as "lightning>=2.6".
        project_extras: extras of the project, if that can be installed.
        constraints: path of the lock, absolute; in a table, relative to that table's file. Empty
            for none.
        platforms: those that the lock must resolve on, as `uv --python-platform` has them.
        python: which Pythons there are wheels for, such as ">=3.11,<3.15"; empty for any.
        torch_index: PyTorch's own package index for the backend; empty where PyPI's build will do.
        runs_on: labels of GitHub's runners for it; empty for a runner of one's own with its name.
        host: what a machine must have for it.
        interpreter: path of a Python that the user has: the suite runs over its packages as they
            are. lock: path of a lock of the user's, whose packages alone make up such a set. Both
            as `constraints`; empty for an environment that is built here.
        variant: which versions it takes: the lock's, the lowest that pyproject.toml allows, the
            latest there are, or those that a user has.
        parts: the environments that it joins, whose cells one run has; empty for one of its own.
    """

    name: str
    description: str
    backends: tuple[str, ...]
    requires: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    project_extras: tuple[str, ...] = ()
    constraints: str = ""
    platforms: tuple[str, ...] = ()
    python: str = ""
    torch_index: str = ""
    runs_on: tuple[str, ...] = ()
    host: Probe = field(default_factory=Probe)
    interpreter: str = ""
    lock: str = ""
    variant: Variant = "locked"
    parts: tuple[Environment, ...] = ()

    @property
    def is_yours(self) -> bool:
        """Whether its row names versions that a user has, which nobody else chooses."""
        return bool(self.interpreter or self.lock)

    @property
    def base(self) -> str:
        """Name of the locked environment that this one is, or is a variant of."""
        return self.name.removesuffix(f"-{self.variant}")

    def of(self, backend: str) -> Environment:
        """Return the one of those that it joins which has a backend; itself if it joins none."""
        return next((one for one in self.parts if backend in one.backends), self)

    def admits(self, python: tuple[int, int]) -> bool:
        """Whether the libraries have wheels for a Python, given as (3, 11)."""
        bounds = [(3, int(minor)) for minor in re.findall(r"3\.(\d+)", self.python)]
        return not bounds or bounds[0] <= python < bounds[1]


ROUTE = "tool.tunematrix.environments"
"""The table of pyproject.toml that a project's rows stand in."""

SHIPPED = "shipped"
"""Its one key that is no row: which of the environments that come with tunematrix it has."""

# A row has the fields of Environment, its `host` those of Probe; these are not written there.
_NOT_WRITTEN = ("name", "variant", "parts")
_PATHS = ("constraints", "interpreter", "lock")
_INSTALLED = ("packages", "project_extras", "constraints")
# Texts that are read further, each with its form and an example.
_FORMS = {
    "python": (r">=3\.\d+,<3\.\d+", ">=3.11,<3.15"),
    "minimum_glibc": (r"\d+\.\d+", "2.28"),
    "minimum_macos": (r"\d+(\.\d+)*", "14.0"),
}


def read_environments(start: Path, roots: Sequence[Path]) -> Mapping[str, Environment]:
    """Return the environments of the project at or above `start`, by name.

    Those that come with tunematrix are first, unless the project's key `shipped` chooses among
    them. A row of the project changes the keys of the shipped one of that name, or adds an
    environment. Each row is followed by its variants. Backends of the config folders `roots` that
    no row has are environments, too.

    Raises:
        BadInput: a row of the table is wrong; the text lists all that is.
    """
    file = project_root(start) / "pyproject.toml"
    shipped, own = shipped_rows(), _own_table(file)
    asked = own.pop(SHIPPED, list(shipped))
    problems = list(_choice_problems(asked, shipped))
    chosen = [] if problems else asked
    rows: dict[str, Any] = {name: shipped[name] for name in chosen}
    for name, row in own.items():
        problems += _row_problems(name, row, shipped.get(name, {}), [*own, *chosen])
        rows[name] = _merged(shipped.get(name, {}), row, file.parent)
    if problems:
        raise BadInput("\n".join(f"{shown(file)}: {text}" for text in problems))
    read = [_environment(name, row) for name, row in rows.items()]
    found = {each.name: each for one in read for each in (one, *_variants(one))}
    every = (*shipped.values(), *rows.values())
    had = {backend for row in every for backend in row["backends"]}
    files = [path for root in roots for path in sorted((root / "backend").glob("*.yaml"))]
    alone = [path.stem for path in files if path.stem not in {*had, *found}]
    found |= {name: Environment(name, f"The backend {name}", (name,)) for name in alone}
    if not found:
        text = f"{ROUTE}: holds no environment; name one in {SHIPPED}, or add one"
        raise BadInput(f"{shown(file)}: {text}")
    return found


def shipped_rows() -> dict[str, Any]:
    """Return the rows of the environments that come with tunematrix, by name."""
    file = shipped_constraints() / "environments.toml"
    rows = tomllib.loads(file.read_text(encoding="utf-8"))
    return {name: _merged({}, row, file.parent) for name, row in rows.items()}


def find_environment(name: str | None, environments: Mapping[str, Environment]) -> Environment:
    """Return an environment by its name; where none is named, cpu, or the only one.

    Several names with commas between them are one environment that joins these; of two that have
    the same backend, the first has its cells.

    Every environment has one more variant than are listed: cpu-yours, with a user's versions. And
    `WATCHED` is always there, with records and no cells.

    Raises:
        BadInput: there is none of that name, or several to choose from.
    """
    if name is None:
        locked = [row.name for row in environments.values() if row.variant == "locked"]
        if DEFAULT not in locked and len(locked) > 1:
            raise BadInput(f"there are the environments {', '.join(locked)}; name one with -e")
        name = locked[0] if len(locked) == 1 else DEFAULT
    if len(names := dict.fromkeys(re.split(f"[,{JOINT}]", name))) > 1:
        return joined([find_environment(one, environments) for one in names])
    base, _, suffix = name.rpartition("-")
    if suffix == YOURS and base in environments and name not in environments:
        return replace(environments[base], name=name, variant=YOURS, requires=())
    if name == WATCHED and name not in environments:
        return Environment(WATCHED, "commands that were watched", ())
    if name not in environments:
        advice = did_you_mean(name, environments)
        raise BadInput(f"{name} is not an environment; {advice}")
    return environments[name]


def joined(parts: Sequence[Environment]) -> Environment:
    """Return the environment of a run that has the cells of several."""
    if len(parts) == 1:
        return parts[0]
    return Environment(
        name=JOINT.join(one.name for one in parts),
        description=f"the cells of {', '.join(one.name for one in parts)}",
        backends=tuple(dict.fromkeys(name for one in parts for name in one.backends)),
        parts=tuple(parts),
    )


def _own_table(file: Path) -> dict[str, Any]:
    """Return a project's [tool.tunematrix.environments]; an empty table where it has none.

    Raises:
        BadInput: it is no table.
    """
    table = tool_table(file.parent, "tunematrix").get("environments", {})
    if not isinstance(table, dict):
        raise BadInput(f"{shown(file)}: {ROUTE}: is not a table; write [{ROUTE}]")
    return dict(table)


def _merged(shipped: Mapping[str, Any], row: object, folder: Path) -> Mapping[str, Any]:
    """Return a row over the shipped one of its name; its paths begin where its table lies."""
    if not isinstance(row, dict):
        return shipped
    merged = {**shipped, **row}
    if isinstance(merged.get("host"), dict):
        merged["host"] = {**shipped.get("host", {}), **merged["host"]}
    for key in _PATHS:
        if isinstance(path := row.get(key), str) and path:
            merged[key] = str(folder / Path(path).expanduser())
    return merged


def _choice_problems(chosen: object, shipped: Mapping[str, Any]) -> Iterator[str]:
    if not _is_list_of_texts(chosen):
        yield f'{ROUTE}.{SHIPPED}: expected a list of texts, got {chosen!r}; write ["cpu"]'
        return
    assert isinstance(chosen, list)
    for name in chosen:
        if name not in shipped:
            yield f"{ROUTE}.{SHIPPED}: {name} is not one; {did_you_mean(name, shipped)}"


def _row_problems(
    name: str, row: object, shipped: Mapping[str, Any], names: Sequence[str]
) -> Iterator[str]:
    route = f"{ROUTE}.{name}"
    if not isinstance(row, dict):
        yield f"{route}: is not a table; write [{route}]"
        return
    base, _, variant = name.rpartition("-")
    if base in names and variant in VARIANTS:
        yield f"{route}: is what the {variant} variant of {base} is called; choose another name"
    yield from _problems(route, row, Environment)
    if "interpreter" in row or "lock" in row:
        for key in _INSTALLED:
            if key in row:
                yield f"{route}.{key}: nothing is installed beside what you have; remove it"
    if not {**shipped, **row}.get("backends"):
        yield f"{route}.backends: names no backend, so nothing could run; add one"


def _problems(
    route: str, row: Mapping[str, object], shape: type[Environment] | type[Probe]
) -> Iterator[str]:
    """Yield what a table has that its dataclass doesn't take."""
    kinds = {each.name: each.type for each in fields(shape) if each.name not in _NOT_WRITTEN}
    for key, value in row.items():
        kind = kinds.get(key)
        if kind is None:
            yield f"{route}.{key}: is not a known key; {did_you_mean(key, kinds)}"
        elif kind == "Probe":
            if isinstance(value, dict):
                yield from _problems(f"{route}.{key}", value, Probe)
            else:
                yield f"{route}.{key}: is not a table; write [{route}.{key}]"
        elif kind == "str":
            yield from _text_problems(f"{route}.{key}", key, value)
        elif not _is_list_of_texts(value):
            yield f'{route}.{key}: expected a list of texts, got {value!r}; write ["one"]'


def _text_problems(route: str, key: str, value: object) -> Iterator[str]:
    pattern, example = _FORMS.get(key, ("", ""))
    if not isinstance(value, str):
        yield f"{route}: expected text, got {value!r}; put it in quotes"
    elif pattern and not re.fullmatch(pattern, value):
        yield f'{route}: can\'t be understood: {value!r}; write it like "{example}"'


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _environment(name: str, row: Mapping[str, Any]) -> Environment:
    told = {"description": "", **_frozen(row)}
    return Environment(name=name, **told | {"host": Probe(**_frozen(row.get("host", {})))})


def _frozen(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in row.items()}


def _variants(locked: Environment) -> Iterator[Environment]:
    if locked.is_yours:
        return
    for variant in VARIANTS:
        yield replace(locked, name=f"{locked.name}-{variant}", variant=variant)
