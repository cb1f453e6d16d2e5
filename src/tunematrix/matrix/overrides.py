"""A spec's overrides compared with the configs: known keys, right types, nothing declared."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Final

from tunematrix.configuration import OPTION_MODELS
from tunematrix.configuration.keys import adapter
from tunematrix.configuration.options import DataOption, LauncherOption
from tunematrix.errors import did_you_mean
from tunematrix.matrix.choices import Choices
from tunematrix.matrix.groups import OPEN, Groups, Option
from tunematrix.spec.explain import misfit
from tunematrix.spec.model import Spec
from tunematrix.spec.problems import Problem
from tunematrix.spec.values import Given
from tunematrix.spec.yaml_tree import Value

ARGUMENTS: Final = "dynamic_args."
"""Begins the overrides that are arguments of a trainer's command, whatever it calls them."""
DUE: Final = ("train.eval_steps", "train.interrupt_at")
"""Settings that name a step at which something has to happen."""
_NAMES_OF_TYPES: Final = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
}


def override_problems(spec: Spec, groups: Groups, chosen: Choices) -> Iterator[Problem]:
    """Yield what is wrong with the overrides of a spec, for all options that it takes."""
    first = {axis: choices[0].option for axis, choices in chosen.items() if choices}
    for key, value in spec.overrides.items():
        if key in groups.axes or key.startswith(ARGUMENTS):
            continue
        axis = key.partition(".")[0]
        of_options = (
            _what_is_wrong(key, value, tree_of(groups, first | {axis: option}), option)
            for option in _options(axis, chosen)
        )
        others = (
            _of_processes(key, value, chosen),
            _beyond_the_end(key, value, spec, groups),
            _best_of_nothing(key, value, spec, groups),
            _counted_otherwise(key, value, chosen),
        )
        texts = chain(of_options, *others)
        # Options of one axis mostly refuse an override in nearly the same words.
        if text := next((text for text in texts if text), None):
            yield spec.problem(("overrides", key), text)


def _of_processes(key: str, value: Given, chosen: Choices) -> Iterator[str]:
    """Yield why a number of processes makes a launcher's claim an empty one."""
    for option in _options("launcher", chosen) if key == "launcher.processes" else ():
        if option is None or type(value) is not int:
            continue
        declared = option.declared
        assert isinstance(declared, LauncherOption)
        if value < 2 and declared.is_group:
            text = f"{value} process is no group, and {option.name} would have nothing to do"
            yield f"{text}; give 2 or more"
        if value > 1 and declared.starts_one:
            yield f"has no effect under {option.name}, which starts no others; use ddp or fsdp"


def _beyond_the_end(key: str, value: Given, spec: Spec, groups: Groups) -> Iterator[str]:
    """Yield why something that is due at a step never happens: training has ended by then."""
    if key not in DUE or type(value) is not int:
        return
    last = _setting("max_steps", spec, groups)
    if type(last) is int and value > last:
        yield f"{value} is beyond train.max_steps ({last}), so it would never happen; lower it"


def _setting(name: str, spec: Spec, groups: Groups) -> object:
    """Return what a spec, or else the project, sets of the `train` section."""
    train = groups.plain.get("train")
    default = train.get(name) if isinstance(train, dict) else None
    return spec.overrides.get(f"train.{name}", default)


def _best_of_nothing(key: str, value: Given, spec: Spec, groups: Groups) -> Iterator[str]:
    """Yield why there is no best checkpoint."""
    if key != "train.load_best" or value is not True:
        return
    if not _setting("eval_steps", spec, groups):
        yield "needs evaluations to choose by; set train.eval_steps"
    if _setting("interrupt_at", spec, groups):
        yield "can't be had with train.interrupt_at, whose second stretch has its own checkpoints"


def _counted_otherwise(key: str, value: Given, chosen: Choices) -> Iterator[str]:
    """Yield why other tokens wouldn't count: trainers go by the data's columns."""
    for option in _options("data", chosen) if key == "train.loss_on" else ():
        if option is not None:
            declared = option.declared
            assert isinstance(declared, DataOption)
            if value != declared.loss_on:
                yield f"of {option.name}, {declared.loss_on} counts; choose other data instead"


def changes(spec: Spec, groups: Groups, options: Mapping[str, Option]) -> dict[str, Given]:
    """Return the overrides of a spec that change something in a cell with these options."""
    tree = tree_of(groups, options)
    found: dict[str, Given] = {}
    for key, value in spec.overrides.items():
        if key in groups.axes:
            continue
        if key.startswith(ARGUMENTS):
            found[key] = value
            continue
        default = None if _is_in_empty(tree, key) else resolved(lookup(tree, key), tree)
        wanted = float(value) if type(value) is int and isinstance(default, float) else value
        plain_default = tuple(default) if isinstance(default, list) else default
        if wanted != plain_default:
            found[key] = wanted
    return found


def tree_of(groups: Groups, options: Mapping[str, Option | None]) -> dict[str, Value]:
    """Return the configuration of a cell before anything is overridden or interpolated."""
    data = {axis: dict(option.data) for axis, option in options.items() if option is not None}
    return {**groups.plain, **data}


def lookup(tree: Mapping[str, Value], key: str) -> Value:
    """Return the value at a dotted key.

    Raises:
        KeyError: there is none.
    """
    value: Value = dict(tree)
    for part in key.split("."):
        if not isinstance(value, dict):
            raise KeyError(key)
        value = value[part]
    return value


def resolved(value: Value, tree: Mapping[str, Value], depth: int = 0) -> Value:
    """Return what a default interpolates to, innermost first; None where that is unknown."""
    if not isinstance(value, str) or "${" not in value:
        return value
    try:
        if whole := re.fullmatch(r"\$\{([^${}]+)\}", value):
            found = lookup(tree, whole[1])
        else:
            found = re.sub(r"\$\{([^${}]+)\}", lambda name: str(lookup(tree, name[1])), value)
    except KeyError:
        return None
    return None if depth > 10 else resolved(found, tree, depth + 1)


def _options(axis: str, chosen: Choices) -> tuple[Option | None, ...]:
    """Return the options an override of this axis must fit; (None,) for the plain tree."""
    if axis not in chosen:
        return (None,)
    return tuple(choice.option for choice in chosen[axis])


def _what_is_wrong(
    key: str, value: Given, tree: Mapping[str, Value], option: Option | None
) -> str | None:
    parts = key.split(".")
    if any(part.startswith("_") for part in parts):
        return "decides which code runs and can't be overridden; add an option of your own"
    if option is not None and option.declared.is_declared(parts[1]):
        return f"is what {option.file} declares and can't be overridden; correct it there"
    if _is_in_empty(tree, key):
        return _not_plain(value)
    try:
        default = lookup(tree, key)
    except KeyError:
        place = "in cell.yaml" if option is None else f"in {option.file}"
        # What has no dot may be meant for an axis, or for a section.
        known = [*(tree if "." not in key else ()), *_keys(tree)]
        return f"there is no such key {place}; {did_you_mean(key, known)}"
    if default == {}:
        return f"is a table; override an entry of it, such as {key}.NAME"
    if isinstance(default, dict):
        keys = [f"{key}.{name}" for name in default if not name.startswith("_")]
        return f"is a section; override its keys: {', '.join(keys)}"
    if (text := _not_plain(value)) is not None:
        return text
    if (wanted := adapter(key)) is not None:
        return misfit(wanted, value)
    return _wrong_type(value, resolved(default, tree))


def _is_in_empty(tree: Mapping[str, Value], key: str) -> bool:
    """Whether a key is an entry of a table that a file leaves empty: whoever overrides fills it."""
    try:
        return lookup(tree, key.rpartition(".")[0]) == {}
    except KeyError:
        return False


def _not_plain(value: Given) -> str | None:
    for entry in value if isinstance(value, tuple) else (value,):
        if isinstance(entry, str) and ("${" in entry or entry == OPEN):
            return f"{entry} would be interpolated; write the value"
        if isinstance(entry, float) and not math.isfinite(entry):
            return f"{entry} is not a finite number; give one"
    return None


def _wrong_type(value: Given, default: Value) -> str | None:
    """Say how a value differs in kind from a default, where no model says what it must be."""
    given = list if isinstance(value, tuple) else type(value)
    expected = type(default)
    is_open = default is None or default == OPEN
    if is_open or given is expected or (given is int and expected is float):
        return None
    return f"expected {_NAMES_OF_TYPES[expected]}, got {_shown(value)}; its default is {default}"


def _shown(value: Given) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(list(value) if isinstance(value, tuple) else value)


def _keys(tree: Mapping[str, Value], prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys that a spec can override."""
    option = OPTION_MODELS.get(prefix.removesuffix("."))
    for name, value in tree.items():
        if name.startswith("_") or (option is not None and option.is_declared(name)):
            continue
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
