"""A spec's axes → the options it takes on each, with all that is wrong in their names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tunematrix.errors import called, did_you_mean
from tunematrix.matrix.groups import OPEN, Groups, Option
from tunematrix.paths import shown
from tunematrix.spec.model import COMMAND, Spec
from tunematrix.spec.problems import Problem, Route
from tunematrix.spec.values import Given
from tunematrix.spec.yaml_tree import Value

# The option of axis model that takes a folder of the user's own, and the key that it leaves open.
_CHECKPOINT = "checkpoint"
_CHECKPOINT_KEY = "model.path"


@dataclass(frozen=True)
class Choice:
    """One option that a spec takes on one axis.

    Attributes:
        option: the option.
        label: what it is called in the ids of cells.
        route: where the spec names it.
        path: the folder of a checkpoint of the user's own; None for every other option.
    """

    option: Option
    label: str
    route: Route
    path: Path | None = None

    @property
    def overrides(self) -> Mapping[str, Given]:
        """What choosing it sets beside its axis."""
        return {} if self.path is None else {_CHECKPOINT_KEY: str(self.path)}


Choices = Mapping[str, tuple[Choice, ...]]


def choose(spec: Spec, groups: Groups) -> tuple[Choices, tuple[Problem, ...]]:
    """Return what a spec takes on every axis, and what is wrong with the names it gives.

    On the axis backend it is all that the spec allows, whatever the environment has.
    """
    chosen: dict[str, tuple[Choice, ...]] = {
        axis: tuple(_default(groups, axis)) for axis in groups.axes
    }
    problems: list[Problem] = []
    for axis, route, names in _named(spec, groups):
        if axis in groups.axes:
            found = [_choice(spec, groups, axis, name, at) for name, at in names]
            chosen[axis] = tuple(choice for choice in found if isinstance(choice, Choice))
            problems += [problem for problem in found if isinstance(problem, Problem)]
        else:
            text = f"is not an axis; {did_you_mean(axis, groups.axes)}"
            problems.append(spec.problem(route, text))
    problems += _misplaced_axes(spec, groups)
    problems += _open_values(spec, chosen)
    return chosen, tuple(problems)


def _default(groups: Groups, axis: str) -> Iterator[Choice]:
    names = groups.axes[axis] if axis == "backend" else [groups.defaults[axis]]
    for name in names:
        yield Choice(groups.axes[axis][name], name, ("matrix",))


def _named(spec: Spec, groups: Groups) -> Iterator[tuple[str, Route, list[tuple[str, Route]]]]:
    """Yield each axis that a spec names, where it does so, and its options with their routes."""
    yield "recipe", ("recipe",), [(spec.recipe or COMMAND, ("recipe",))]
    for axis, options in spec.matrix.axes.items():
        route: Route = ("matrix", axis)
        if options == "all":
            yield axis, route, [(name, route) for name in groups.axes.get(axis, ())]
        else:
            yield axis, route, [(name, (*route, i)) for i, name in enumerate(options)]
    for key, value in spec.overrides.items():
        if key in groups.axes and isinstance(value, str):
            yield key, ("overrides", key), [(value, ("overrides", key))]


def _choice(spec: Spec, groups: Groups, axis: str, name: str, route: Route) -> Choice | Problem:
    options = groups.axes[axis]
    if name in options:
        return Choice(options[name], name, route)
    if axis == "model" and _CHECKPOINT in options:
        base = spec.source.path.parent if spec.source.path else Path.cwd()
        folder = Path(os.path.normpath(base.absolute() / name))
        if "${" in str(folder):
            return spec.problem(
                route, f"{folder} would be interpolated, since it contains ${{; rename the folder"
            )
        if _is_folder(folder):
            label = re.sub(r"[^A-Za-z0-9._-]", "_", folder.name)
            return Choice(options[_CHECKPOINT], label, route, folder)
        if "/" in name or os.sep in name:
            text = (
                f"there is no folder {shown(folder)}; paths are relative to the spec's file, "
                "and a model from a hub must be downloaded first"
            )
            return spec.problem(route, text)
    text = f"{called(name)} is not an option of {axis}; {did_you_mean(name, options)}"
    return spec.problem(route, text)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # longer than any name of a file can be
        return False


def _misplaced_axes(spec: Spec, groups: Groups) -> Iterator[Problem]:
    if "recipe" in spec.matrix.axes:
        text = "can't be varied within a spec; name it in the field recipe (recipe: sft)"
        yield spec.problem(("matrix", "recipe"), text)
    for key, value in spec.overrides.items():
        route = ("overrides", key)
        if key == "backend" and spec.relation is None:
            yield spec.problem(route, "comes from the environment; restrict it in matrix.backend")
        elif key == "recipe":
            yield spec.problem(route, "has a field of its own; name it there (recipe: sft)")
        elif key in groups.axes and key in spec.matrix.axes:
            line = spec.where("matrix", key)
            yield spec.problem(route, f"is varied by the matrix ({line}); remove one of the two")
        elif key in groups.axes and not isinstance(value, str):
            yield spec.problem(route, "is an axis; name one option, or several in the matrix")


def _open_values(spec: Spec, chosen: Choices) -> Iterator[Problem]:
    """Yield a problem for each value that an option leaves open (???) and nothing sets."""
    for choice in (choice for choices in chosen.values() for choice in choices):
        option = choice.option
        for key in open_keys(option.data, option.axis):
            set_by_path = choice.path is not None and key == _CHECKPOINT_KEY
            if key in spec.overrides and set_by_path:
                text = "is set by the matrix, which names a folder; remove it"
                yield spec.problem(("overrides", key), text)
            elif key not in spec.overrides and not set_by_path:
                text = f"{option.name} needs a value for {key}; set it in overrides"
                if key == _CHECKPOINT_KEY:
                    text = f"{option.name} needs a folder; write its path instead of the name"
                yield spec.problem(choice.route, text)


def open_keys(data: Mapping[str, Value], prefix: str) -> Iterator[str]:
    """Yield the dotted names of the values that an option leaves open (???)."""
    for key, value in data.items():
        if value == OPEN:
            yield f"{prefix}.{key}"
        elif isinstance(value, dict):
            yield from open_keys(value, f"{prefix}.{key}")
