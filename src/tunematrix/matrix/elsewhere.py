"""Where no cell is left: which environments have those that were asked for, and what to change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tunematrix.environments.table import Environment
from tunematrix.errors import BadInput
from tunematrix.matrix.groups import Groups
from tunematrix.matrix.plan import plan
from tunematrix.matrix.select import EVERYTHING, Selection
from tunematrix.spec.model import Spec


def owners(
    specs: Sequence[Spec],
    groups: Groups,
    environments: Iterable[Environment],
    here: Environment,
    selection: Selection = EVERYTHING,
) -> tuple[str, ...]:
    """Return the names of the other environments, of the same variant, that have such cells.

    Those of the fewest backends come first: they are for these cells the most.
    """
    others = [one for one in environments if one.variant == here.variant and one != here]
    others.sort(key=lambda one: len(one.backends))
    return tuple(one.name for one in others if _has_cells(specs, groups, one, selection))


def way_out(owning: Sequence[str], filters: Sequence[str]) -> str:
    """Return what to do where no cell is left; empty where nothing was asked for that can change.

    Args:
        owning: environments that have such cells. filters: options that were given, by their names.
    """
    if owning:
        return f"its cells are of {_either(owning, 'and')}; try -e {owning[0]}"
    return f"remove or change {_either(filters, 'or')}" if filters else ""


def _has_cells(
    specs: Sequence[Spec], groups: Groups, environment: Environment, selection: Selection
) -> bool:
    try:
        return bool(plan(specs, groups, environment, selection).cells)
    except BadInput:  # what is wrong with that environment is said to those who use it
        return False


def _either(names: Sequence[str], word: str) -> str:
    *first, last = names
    return f"{', '.join(first)} {word} {last}" if first else last
