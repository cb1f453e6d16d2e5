"""A line of JSON → the dataclass that it was, by its kind and the types of its fields."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping
from dataclasses import is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

TERMINAL_CODES = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x07\x1b]*(?:\x07|\x1b\\))|\x00")


def without_codes(text: str) -> str:
    """Return a text without what colours it, or moves the cursor, on a terminal."""
    return TERMINAL_CODES.sub("", text)


def brief(text: str, most: int) -> str:
    """Return the first lines of a text, without terminal codes; blank ones don't count."""
    lines = [line.rstrip() for line in without_codes(text).splitlines() if line.strip()]
    more = len(lines) - most
    return "\n".join(lines if more <= 0 else [*lines[:most], f"({more} more lines in stderr.log)"])


def rebuilt(line: bytes, kinds: Mapping[str, Any]) -> Any:
    """Return the dataclass that a line of JSON was, by its `kind`.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: it is none of these kinds.
    """
    fields = json.loads(line)
    kind = kinds[fields.pop("kind")]
    hints = _hints(kind)
    if unknown := fields.keys() - hints.keys():
        raise ValueError(f"{kind.__name__} has no field {', '.join(sorted(unknown))}")
    return kind(**{name: _restored(value, hints[name]) for name, value in fields.items()})


@cache
def _hints(kind: Hashable) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _restored(value: Any, hint: Any) -> object:
    """Undoes what JSON did to a value: lists become tuples or rows, whole floats floats.

    Raises:
        TypeError: the value is not what the field declares.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any or (origin is None and type(value) is hint):
        return value
    if hint is float and type(value) is int:
        return float(value)
    if origin is UnionType:
        if type(value) in arguments:
            return value
        (inner,) = set(arguments) - {NoneType}
        return None if value is None else _restored(value, inner)
    if isinstance(hint, type) and is_dataclass(hint) and isinstance(value, dict):
        fields = _hints(hint)
        return hint(**{key: _restored(entry, fields[key]) for key, entry in value.items()})
    if origin is dict and isinstance(value, dict):
        return {key: _restored(entry, arguments[1]) for key, entry in value.items()}
    if origin is None and issubclass(hint, tuple) and isinstance(value, list):
        entries = zip(value, _hints(hint).values(), strict=True)
        return hint(*(_restored(entry, inner) for entry, inner in entries))
    if origin is tuple and isinstance(value, list):
        hints = [arguments[0]] * len(value) if arguments[-1] is ... else list(arguments)
        return tuple(_restored(entry, hint) for entry, hint in zip(value, hints, strict=True))
    raise TypeError(f"expected {hint}, but got {value!r}")
