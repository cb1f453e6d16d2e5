"""A cell's options and overrides → its whole configuration, as Hydra would compose it.

The groups have been read already, so composing is a merge and an interpolation; that it comes to
what Hydra composes, a test holds for every cell of the suite.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from tunematrix.configuration import Configuration
from tunematrix.errors import BadInput
from tunematrix.matrix.cells import Cell
from tunematrix.matrix.groups import OPEN, Groups
from tunematrix.matrix.overrides import ARGUMENTS, tree_of
from tunematrix.spec.explain import findings
from tunematrix.spec.problems import dotted
from tunematrix.spec.yaml_tree import texts

_NEVER_NAMED = {"capabilities", "unsupported", "preload"}
"""What options declare at length, and no interpolation leads to."""


def compose(cell: Cell, groups: Groups, cache_dir: str = "") -> Configuration:
    """Return the configuration of a cell, with everything interpolated.

    `cache_dir` is where generated checkpoints are kept, as the cell will find it.

    Raises:
        BadInput: a value is missing or of the wrong kind, or an interpolation leads nowhere.
    """
    tree = interpolated(cell, groups)
    added = {axis: tree.pop(axis) for axis in groups.added}
    try:
        return Configuration.model_validate({**tree, "added": added, "cache_dir": cache_dir})
    except ValidationError as error:
        wrong = (f"{dotted(one.route)}: {one.text}" for one in findings(Configuration, error))
        raise _broken(cell, "; ".join(wrong)) from None


def interpolated(cell: Cell, groups: Groups) -> dict[str, Any]:
    """Return the same as plain data, before anything is held against the models.

    Raises:
        BadInput: a value is missing, or an interpolation leads nowhere.
    """
    options = {axis: groups.axes[axis][name] for axis, name in cell.axes.items()}
    tree = deepcopy(tree_of(groups, options))
    for key, value in cell.overrides.items():
        if key.startswith(ARGUMENTS):
            continue  # the trainer's own, which no option knows
        _set(tree, key.split("."), list(value) if isinstance(value, tuple) else value)
    if missing := sorted(dotted(route) for route, text in texts(tree) if text == OPEN):
        raise _broken(cell, f"{', '.join(missing)}: left open (???); set it in overrides")
    try:
        _interpolate(tree)
    except OmegaConfBaseException as error:
        key = f"{error.full_key}: " if error.full_key else ""
        reason = " ".join(str(error).partition("\n    full_key:")[0].split())
        raise _broken(cell, f"{key}{reason}; correct the config") from None
    return tree


def _interpolate(tree: dict[str, Any]) -> None:
    """Put what they lead to in the place of all interpolations.

    OmegaConf sees no more than it has to: it takes a hundred times as long as a plain tree.
    """
    routes = [route for route, text in texts(tree) if "${" in text]
    config = OmegaConf.create({name: _without_declarations(part) for name, part in tree.items()})
    for route in routes:
        value: Any = config
        for part in route:
            value = value[part]
        if OmegaConf.is_config(value):
            value = OmegaConf.to_container(value, resolve=True)
        _set(tree, route, value)


def _without_declarations(section: object) -> object:
    if not isinstance(section, dict):
        return section
    return {key: value for key, value in section.items() if key not in _NEVER_NAMED}


def _set(tree: Any, route: Sequence[str | int], value: object) -> None:
    *sections, last = route
    for section in sections:
        tree = tree[section]
    tree[last] = value


def _broken(cell: Cell, text: str) -> BadInput:
    return BadInput(f"{cell.spec.where()}: {cell.id}: {text}")
