"""A step's config file and the `key=value` of its command line → a typed config."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml
from pydantic import ValidationError

from tunematrix.configuration.section import Section
from tunematrix.configuration.variables import filled, variables_in
from tunematrix.errors import BadInput, did_you_mean
from tunematrix.evidence.secrets import redacted
from tunematrix.paths import shown
from tunematrix.spec.explain import findings
from tunematrix.spec.problems import Problem, Route, dotted, refuse
from tunematrix.spec.yaml_tree import Tree, Value, empty_entries, read_tree, texts

Settings = TypeVar("Settings", bound=Section)

_ASSIGNMENT = re.compile(r"([^=]+)=(.*)", re.DOTALL)
# Where a problem is that no file has; shown as a file would be.
_COMMAND_LINE = Path("command line")


@dataclass(frozen=True)
class StepConfig(Generic[Settings]):
    """A config, and where each part of it was written.

    Attributes:
        settings: what it says, overrides and variables filled in.
        tree: the file.
        overridden: routes that the command line set.
    """

    settings: Settings
    tree: Tree
    overridden: tuple[Route, ...] = ()

    def problem(self, route: Route, text: str) -> Problem:
        """Return a problem with one entry, at its line or on the command line."""
        return _located(self.tree, self.overridden, route, text)


def read_settings(
    file: Path, model: type[Settings], assignments: Iterable[str]
) -> StepConfig[Settings]:
    """Read a step's config.

    Args:
        file: YAML. model: what it has to be.
        assignments: `name=value` for `{name}` in the file, and `models.0.revision=main`.

    Raises:
        BadInput: something is wrong; the text lists all of it with file and line.
    """
    try:
        return _read(file, model, assignments)
    except BadInput as error:
        # What stands in the wrong place is quoted, and that may be a token.
        raise BadInput(redacted(str(error))) from None


def _read(file: Path, model: type[Settings], assignments: Iterable[str]) -> StepConfig[Settings]:
    tree = read_tree(file)
    refuse([*tree.problems, *_empty(tree)])
    data: Any = copy.deepcopy(dict(tree.data))
    overrides, variables = _sorted(assignments, model)
    for route, text in overrides.items():
        _put(data, route, _parsed(text))
    known = set(_names(data))
    for name in variables:
        if name not in known:
            advice = did_you_mean(name, [*known, *model.model_fields])
            raise BadInput(f"{name}=…: {shown(file)} has no variable or key of that name; {advice}")
    routes = tuple(overrides)
    refuse(_unset(tree, routes, data, variables))
    data = filled(data, variables)
    try:
        return StepConfig(_validated(model, data, overrides), tree, routes)
    except ValidationError as error:
        found = list(findings(model, error))
        refuse(_located(tree, routes, one.route, one.text) for one in found)
        raise


def _located(tree: Tree, overridden: Iterable[Route], route: Route, text: str) -> Problem:
    if any(route[: len(one)] == one for one in overridden):
        return Problem(_COMMAND_LINE, None, route, text)
    return tree.problem(route, text)


def _empty(tree: Tree) -> Iterator[Problem]:
    for route in empty_entries(tree.data, ()):
        yield tree.problem(route, "is empty; give it a value or remove the line")


def _sorted(
    assignments: Iterable[str], model: type[Section]
) -> tuple[dict[Route, str], dict[str, str]]:
    """Return what overrides an entry, by its route, and what is a variable, by its name."""
    overrides: dict[Route, str] = {}
    variables: dict[str, str] = {}
    for assignment in assignments:
        match = _ASSIGNMENT.fullmatch(assignment)
        if match is None:
            text = f"{assignment}: is no key=value"
            raise BadInput(f"{text}; write it so, such as tmp_path=/data or models.0.revision=main")
        key, value = match[1], match[2]
        first, *rest = key.split(".")
        if first in model.model_fields:
            overrides[(first, *(int(p) if p.isdigit() else p for p in rest))] = value
        elif rest:
            known = did_you_mean(first, model.model_fields)
            raise BadInput(f"{key}=…: {first} is not a known key; {known}")
        else:
            variables[key] = value
    return overrides, variables


def _parsed(text: str) -> Value:
    """Return the value that a text on the command line stands for, as it would in the file."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return value if isinstance(value, str | int | float | bool | list | dict) else text


def _put(data: Any, route: Route, value: Value) -> None:
    """Set an entry; sections on the way to it are made, entries of lists have to be there."""
    *way, last = route
    for position, part in enumerate(way):
        if isinstance(data, dict):
            data = data.setdefault(part, {})
        else:
            data = data[_index(data, route[: position + 1])]
    if isinstance(data, dict):
        data[last] = value
    else:
        data[_index(data, route)] = value


def _index(data: object, route: Route) -> int:
    key, part = ".".join(map(str, route)), route[-1]
    if not isinstance(data, list):
        raise BadInput(f"{key}=…: {dotted(route[:-1])} has nothing below it; correct the key")
    if not isinstance(part, int) or part >= len(data):
        text = f"{dotted(route[:-1])} is a list of {len(data)}; count from 0"
        raise BadInput(f"{key}=…: {text}")
    return part


def _names(data: Any) -> Iterator[str]:
    for _, text in texts(data):
        yield from variables_in(text)


def _unset(
    tree: Tree, overridden: tuple[Route, ...], data: Any, variables: Mapping[str, str]
) -> Iterator[Problem]:
    for route, text in texts(data):
        for name in dict.fromkeys(variables_in(text)):
            if name not in variables:
                words = f"{{{name}}} is not set; add {name}=VALUE to the command"
                yield _located(tree, overridden, route, words)


def _validated(model: type[Settings], data: Any, overrides: Mapping[Route, str]) -> Settings:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        # A revision that is all digits is text all the same; no shell lets one quote it twice.
        as_text = {one["loc"] for one in error.errors() if one["type"] == "string_type"} & {
            *overrides
        }
        if not as_text:
            raise
        for route in as_text:
            _put(data, route, overrides[route])
        return model.model_validate(data)
