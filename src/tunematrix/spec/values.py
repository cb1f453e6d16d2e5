"""The plain values that a spec's fields take: validated texts, numbers, options and links."""

from __future__ import annotations

import math
from pathlib import PurePosixPath
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, Strict
from pydantic_core import PydanticCustomError

from tunematrix.configuration.section import Names, options

PYTESTS_MARKERS = frozenset({
    "filterwarnings", "parametrize", "skip", "skipif", "tryfirst", "trylast", "usefixtures", "xfail"
})  # fmt: skip
OUR_MARKERS = frozenset({"planted", "probe", "relation", "requires_backend"})

Scalar: TypeAlias = bool | int | float | str
Given: TypeAlias = Scalar | tuple[Scalar, ...]
"""The values that an override may give a key."""


def _scalar(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        text = "{value} is not a finite number; give one"
        raise PydanticCustomError("not_finite", text, {"value": str(value)})
    if isinstance(value, int) and abs(value) >= 2**63:
        raise PydanticCustomError("too_large", "has more than 63 bits; give a smaller number")
    if not isinstance(value, bool | int | float | str):
        raise PydanticCustomError("not_plain", "expected a number, a text, true or false")
    return value


def _scalar_or_list(value: object) -> object:
    if isinstance(value, dict):
        text = "expected a value, got a section; write its keys with dots (train.max_steps: 60)"
        raise PydanticCustomError("not_plain", text)
    for entry in value if isinstance(value, list | tuple) else (value,):
        _scalar(entry)
    return value


def _own_marker(name: str) -> str:
    if name in PYTESTS_MARKERS:
        text = "{name} would have pytest leave the cell out, or call its failure expected; "
        text += "remove it, and declare what doesn't work in known_failures"
        raise PydanticCustomError("pytests_marker", text, {"name": name})
    if name in OUR_MARKERS:
        raise PydanticCustomError("our_marker", "{name} is set by tunematrix itself; remove it", {
            "name": name
        })  # fmt: skip
    return name


def _inside(files: tuple[str, ...]) -> tuple[str, ...]:
    for index, name in enumerate(files):
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            text = "{name} leaves the run's output folder; give a path relative to it"
            raise PydanticCustomError("outside", text, {"name": name, "index": index})
    return files


Files: TypeAlias = Annotated[Names, AfterValidator(_inside)]
Options: TypeAlias = Annotated[Literal["all"] | tuple[str, ...], BeforeValidator(options)]
Plain: TypeAlias = Annotated[Scalar, BeforeValidator(_scalar)]
PlainOrList: TypeAlias = Annotated[
    Scalar | Annotated[tuple[Scalar, ...], Strict(False)], BeforeValidator(_scalar_or_list)
]
Link: TypeAlias = Annotated[str, Field(pattern=r"^https?://\S+$")]
Marker: TypeAlias = Annotated[
    str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"), AfterValidator(_own_marker)
]
