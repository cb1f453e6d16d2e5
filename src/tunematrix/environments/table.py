"""pyproject.toml → environments: what Nox builds a virtualenv for, and what it computes with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from tunematrix.environments.host import Probe
from tunematrix.errors import BadInput, did_you_mean
from tunematrix.paths import project_root, pyproject, shown

Variant: TypeAlias = Literal["locked", "lowest", "latest"]

VARIANTS: tuple[Variant, ...] = ("lowest", "latest")
"""Each environment has these beside its locked self, as cpu has cpu-lowest and cpu-latest."""


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
        platforms: those that the lock must resolve on, as `uv --python-platform` has them.
        python: which Pythons there are wheels for, such as ">=3.11,<3.15"; empty for any.
        torch_index: PyTorch's own package index for the backend; empty where PyPI's build will do.
        host: what a machine must have for it.
        variant: which versions it takes: the lock's, the lowest that pyproject.toml allows, or
            the latest there are.
    """

    name: str
    description: str
    backends: tuple[str, ...]
    requires: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    constraints: str = ""
    platforms: tuple[str, ...] = ()
    python: str = ""
    torch_index: str = ""
    host: Probe = field(default_factory=Probe)
    variant: Variant = "locked"

    @property
    def base(self) -> str:
        """Name of the locked environment that this one is, or is a variant of."""
        return self.name.removesuffix(f"-{self.variant}")

    def admits(self, python: tuple[int, int]) -> bool:
        """Whether the libraries have wheels for a Python, given as (3, 11)."""
        bounds = [(3, int(minor)) for minor in re.findall(r"3\.(\d+)", self.python)]
        return not bounds or bounds[0] <= python < bounds[1]


# A row has the fields of Environment, its `host` those of Probe; these are not written there.
_NOT_WRITTEN = ("name", "variant")
# Texts that are read further, each with its form and an example.
_FORMS = {
    "python": (r">=3\.\d+,<3\.\d+", ">=3.11,<3.15"),
    "minimum_glibc": (r"\d+\.\d+", "2.28"),
    "minimum_macos": (r"\d+(\.\d+)*", "14.0"),
}


def read_environments(start: Path, roots: Sequence[Path]) -> Mapping[str, Environment]:
    """Return the environments of the nearest pyproject.toml at or above `start`, by name.

    Each row is followed by its variants. Where that file has no row, each backend of the config
    folders `roots` is one.

    Raises:
        BadInput: a row of the table is wrong; the text lists all that is.
    """
    file = project_root(start) / "pyproject.toml"
    rows = _table(file)
    if rows is None:
        files = [path for root in roots for path in sorted((root / "backend").glob("*.yaml"))]
        names = [path.stem for path in files]
        return {name: Environment(name, f"The backend {name}", (name,)) for name in names}
    problems = [text for name, row in rows.items() for text in _row_problems(name, row, rows)]
    if problems:
        raise BadInput("\n".join(f"{shown(file)}: {text}" for text in problems))
    read = [_environment(name, row) for name, row in rows.items()]
    return {each.name: each for locked in read for each in (locked, *_variants(locked))}


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


def _row_problems(name: str, row: object, rows: Mapping[str, object]) -> Iterator[str]:
    route = f"tool.tunematrix.environments.{name}"
    if not isinstance(row, dict):
        yield f"{route}: is not a table; write [{route}]"
        return
    base, _, variant = name.rpartition("-")
    if base in rows and variant in VARIANTS:
        yield f"{route}: is what the {variant} variant of {base} is called; choose another name"
    yield from _problems(route, row, Environment)
    if not row.get("backends"):
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
    for variant in VARIANTS:
        yield replace(locked, name=f"{locked.name}-{variant}", variant=variant)
