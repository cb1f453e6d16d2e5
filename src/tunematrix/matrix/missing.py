"""A plan → the pairs of options that none of its cells ever brings together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, product

from tunematrix.matrix.capabilities import is_at_home
from tunematrix.matrix.cells import Cell
from tunematrix.matrix.choices import open_keys
from tunematrix.matrix.groups import Groups, Option
from tunematrix.matrix.plan import Plan
from tunematrix.spec.known_failure import holds

Pair = tuple[str, str]
"""An option of each of two axes."""


@dataclass(frozen=True)
class AxisPair:
    """What a plan brings together of two axes.

    Attributes:
        axes: the two.
        met: pairs of options that stand in some cell.
        missing: pairs that stand in none, though nothing declares them unsupported.
        unsupported: how many are declared so.
    """

    axes: Pair
    met: tuple[Pair, ...]
    missing: tuple[Pair, ...]
    unsupported: int


def missing_pairs(plan: Plan, groups: Groups) -> tuple[AxisPair, ...]:
    """Return, for each two axes, which options never meet in a plan's environment.

    The backend is the environment's, and no axis here; options that wait for a value, such as the
    folder of a checkpoint, are left out, and so are axes without effect on a recipe.
    """
    met = _met(plan.cells, groups)
    options = {axis: tuple(_there(axis, plan, groups)) for axis in groups.axes if axis != "backend"}
    return tuple(
        _compare((one, other), options, met[one, other], groups)
        for one, other in combinations(options, 2)
    )


def _met(cells: tuple[Cell, ...], groups: Groups) -> Mapping[Pair, set[Pair]]:
    met: defaultdict[Pair, set[Pair]] = defaultdict(set)
    for cell in cells:
        telling = groups.with_effect(cell.axes["recipe"])
        axes = [axis for axis in groups.axes if axis in telling and axis != "backend"]
        for one, other in combinations(axes, 2):
            met[one, other].add((cell.axes[one], cell.axes[other]))
    return met


def _there(axis: str, plan: Plan, groups: Groups) -> Iterator[Option]:
    for option in groups.axes[axis].values():
        backends = plan.environment.backends
        is_open = next(open_keys(option.data, axis), None) is not None
        if not is_open and any(is_at_home(option.declared, backend) for backend in backends):
            yield option


def _compare(
    axes: Pair, options: Mapping[str, tuple[Option, ...]], met: set[Pair], groups: Groups
) -> AxisPair:
    missing, unsupported = [], 0
    for one, other in product(*(options[axis] for axis in axes)):
        pair = (one.name, other.name)
        if pair in met:
            continue
        if _is_refused(one, other) or _is_refused(other, one):
            unsupported += 1
        elif not _is_without_effect(one, other, groups):
            missing.append(pair)
    return AxisPair(axes, tuple(sorted(met)), tuple(missing), unsupported)


def _is_refused(one: Option, other: Option) -> bool:
    """Return whether `one` declares that it never works with `other`, whatever stands beside."""
    answers = one.declared.capabilities.get(other.axis)
    if answers is not None and (other.name not in answers or answers[other.name] is not None):
        return True
    point = {one.axis: one.name, other.axis: other.name}
    return any(holds(entry.when, point) for entry in one.declared.unsupported)


def _is_without_effect(one: Option, other: Option, groups: Groups) -> bool:
    """Return whether one is a recipe on which the other's axis has no effect."""
    return any(
        recipe.axis == "recipe" and beside.axis not in groups.with_effect(recipe.name)
        for recipe, beside in ((one, other), (other, one))
    )
