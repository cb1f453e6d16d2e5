"""pydantic's findings in a YAML file → problems that name the line and say what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from tunematrix.errors import did_you_mean
from tunematrix.spec.problems import Problem, Route
from tunematrix.spec.yaml_tree import Tree

# pydantic's types of error → what is expected, and what to do.
_EXPECTED = {
    "string_type": ("text", "put it in quotes"),
    "int_type": ("a whole number", "write it in digits"),
    "float_type": ("a number", "write it in digits"),
    "bool_type": ("true or false", "write one of them"),
    "finite_number": ("a finite number", "nan and infinity can't be compared with"),
    "tuple_type": ("a list", "write [one, two]"),
    "dict_type": ("a section", "write `key: value` lines below it"),
    "mapping_type": ("a section", "write `key: value` lines below it"),
    "model_type": ("a section", "write `key: value` lines below it"),
    "greater_than": ("more than {gt:g}", "raise it"),
    "greater_than_equal": ("at least {ge:g}", "raise it"),
    "less_than": ("less than {lt:g}", "lower it"),
    "less_than_equal": ("at most {le:g}", "lower it"),
    "string_too_short": ("some text", "fill it in or remove the line"),
    "string_too_long": ("at most {max_length} characters", "shorten it"),
    "string_pattern_mismatch": ("text that matches {pattern}", "correct it"),
    "too_short": ("{min_length} or more entries", "add one or remove the line"),
    "literal_error": ("{expected}", "write one of them"),
}


def explained(tree: Tree, model: type[BaseModel], error: ValidationError) -> Iterator[Problem]:
    """Yield a problem for each of pydantic's findings about the data of `tree`."""
    for found in findings(model, error):
        yield tree.problem(found.route, found.text)


@dataclass(frozen=True)
class Misfit:
    """One of pydantic's findings in our words.

    Attributes:
        route: from the top of the data to the entry; kind: pydantic's name for what is wrong.
        text: what is wrong, and what to do; value: what stands there.
    """

    route: Route
    kind: str
    text: str
    value: object


def findings(model: type[BaseModel], error: ValidationError) -> Iterator[Misfit]:
    """Yield each of pydantic's findings in words, where no file is at hand."""
    for found in error.errors(include_url=False):
        if found["type"] == "default_factory_not_called":  # only says that others failed
            continue
        route = _route(found)
        yield Misfit(route, found["type"], _text(model, route, found), found["input"])


def misfit(wanted: TypeAdapter[Any], value: object) -> str | None:
    """Say what is wrong with one value; None where it fits."""
    try:
        wanted.validate_python(value, strict=True)
    except ValidationError as error:
        return _value_text(error.errors(include_url=False)[0])
    return None


def _route(found: ErrorDetails) -> Route:
    route = tuple(part for part in found["loc"] if part != "[key]")
    context = found.get("ctx", {})
    index = context.get("index")
    return (*route, *context.get("route", () if index is None else (index,)))


def _text(model: type[BaseModel], route: Route, found: ErrorDetails) -> str:
    kind = found["type"]
    if kind == "extra_forbidden":
        known = _section_at(model, route[:-1]).model_fields
        return f"is not a known key; {did_you_mean(str(route[-1]), known)}"
    if kind == "missing":
        return "is missing; add it"
    return _value_text(found)


def _value_text(found: ErrorDetails) -> str:
    kind = found["type"]
    if kind == "literal_error" and isinstance(found["input"], str):
        known = re.findall(r"'([^']*)'", found["ctx"]["expected"])
        return f"{found['input']} is not one of its values; {did_you_mean(found['input'], known)}"
    if kind in _EXPECTED:
        expected, advice = _EXPECTED[kind]
        advice = _as_written(kind, found["input"]) or advice
        wanted = expected.format(**found.get("ctx", {}))
        return f"expected {wanted}, got {_described(found['input'])}; {advice}"
    return found["msg"]


def _as_written(kind: str, value: object) -> str | None:
    """Return what to change about a value that is right but for how it is written, if it is."""
    if kind == "bool_type":
        is_quoted = isinstance(value, str) and value.lower() in ("true", "false")
        return "write it without quotes" if is_quoted else None
    if kind == "int_type" and isinstance(value, float):
        return "write it without decimals"
    if kind not in ("int_type", "float_type") or not isinstance(value, str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    has_decimals = kind == "int_type" and not number.is_integer()
    return f"write it without quotes{' and decimals' if has_decimals else ''}"


def _described(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else f"{value[:40]}…")
    if isinstance(value, dict):
        return "a section"
    return "a list" if isinstance(value, list | tuple) else str(value)


def _section_at(model: type[BaseModel], route: Route) -> type[BaseModel]:
    """Return the section a route leads to; keys of free mappings and positions are passed by."""
    for part in route:
        if part in model.model_fields:
            annotation = model.model_fields[str(part)].annotation
            model = next(_sections_in(annotation), model)
    return model


def _sections_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _sections_in(argument)
