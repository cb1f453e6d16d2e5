"""pydantic's findings in a YAML file → problems that name the line and say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tunematrix.errors import did_you_mean
from tunematrix.spec.problems import Problem, Route
from tunematrix.spec.yaml_tree import Tree

# pydantic's types of error → what is expected, and what to do.
_EXPECTED = {
    "string_type": ("text", "put it in quotes"),
    "int_type": ("a whole number", "write it without quotes and decimals"),
    "float_type": ("a number", "write it without quotes"),
    "bool_type": ("true or false", "write one of them without quotes"),
    "finite_number": ("a finite number", "nothing compares with nan or infinity"),
    "tuple_type": ("a list", "write [one, two]"),
    "dict_type": ("a section", "write `key: value` lines below it"),
    "mapping_type": ("a section", "write `key: value` lines below it"),
    "model_type": ("a section", "write `key: value` lines below it"),
    "greater_than": ("more than {gt}", "raise it"),
    "greater_than_equal": ("at least {ge}", "raise it"),
    "string_too_short": ("some text", "fill it in or remove the line"),
    "string_too_long": ("at most {max_length} characters", "shorten it"),
    "string_pattern_mismatch": ("text that matches {pattern}", "correct it"),
    "too_short": ("{min_length} or more entries", "add one or remove the line"),
    "literal_error": ("{expected}", "write one of them"),
}


def explained(tree: Tree, model: type[BaseModel], error: ValidationError) -> Iterator[Problem]:
    """Yield a problem for each of pydantic's findings about the data of `tree`."""
    for found in error.errors(include_url=False):
        if found["type"] == "default_factory_not_called":  # only says that others failed
            continue
        route = _route(found)
        yield tree.problem(route, _text(model, route, found))


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
    if kind in _EXPECTED:
        expected, advice = _EXPECTED[kind]
        wanted = expected.format(**found.get("ctx", {}))
        return f"expected {wanted}, got {_described(found['input'])}; {advice}"
    return found["msg"]


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
