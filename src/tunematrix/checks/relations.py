"""Whether several cells agree: their configurations, tensors and figures in, verdicts out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

from tunematrix.checks.differences import Side, difference, values
from tunematrix.checks.figures import severity
from tunematrix.checks.verdict import Verdict, missing, within
from tunematrix.spec.relation import FIGURES, Quantity, Relation

SAME, MEAN, RATIO = "same_", "_mean", "ratio_"
"""Of the names of verdicts: same_gradients by the largest difference, same_gradients_mean by the
mean one, ratio_stored_mb."""
UNKNOWN = "none recorded"
"""The bound of a verdict that nothing bounds."""
FACTOR = 10
"""So many times the largest difference of honest runs is still equal."""
Allowed: TypeAlias = Callable[[str], float | None]
"""The name of a verdict to the difference that honest runs have shown; None where none is known."""


def is_relations(check: str) -> bool:
    """Return whether a verdict of this name is a relation's, and not a cell's."""
    return check.startswith((SAME, RATIO))


def undeclared(sides: Sequence[Side], varied: Iterable[str]) -> tuple[str, ...]:
    """Name the settings in which sides differ, though the relation doesn't say so."""
    trees = [dict(_leaves(side.config)) for side in sides]
    keys = dict.fromkeys(key for tree in trees for key in tree)
    return tuple(
        key
        for key in keys
        if not any(key == name or key.startswith(f"{name}.") for name in varied)
        and any(tree.get(key) != trees[0].get(key) for tree in trees)
    )


def agree(relation: Relation, sides: Sequence[Side], allowed: Allowed) -> tuple[Verdict, ...]:
    """Hold every side against the first, in all that the relation compares."""
    found: list[Verdict] = []
    for quantity in relation.compare:
        if quantity in FIGURES:
            found.append(_ratio(quantity, relation, sides))
        else:
            bound = partial(_bound, relation, quantity, sides, allowed)
            found += _same(quantity, sides, bound)
    return tuple(found)


def _bound(
    relation: Relation, quantity: Quantity, sides: Sequence[Side], allowed: Allowed, name: str
) -> float | None:
    """Return the largest difference that passes; None where nothing says so."""
    rounding = max(side.figures.get("logit_error", 0.0) for side in sides)
    for name_of, theory in relation.tolerance.items():
        if name_of == quantity:
            return theory + relation.of_rounding * rounding
    spread = allowed(name)
    return None if spread is None else FACTOR * spread


def _same(quantity: Quantity, sides: Sequence[Side], bound: Allowed) -> Iterator[Verdict]:
    name = SAME + quantity
    first, *others = ((side.name, values(quantity, side)) for side in sides)
    if absent := [arm for arm, found in (first, *others) if not found]:
        yield missing(name, f"{quantity} in arm {', '.join(absent)}")
        return
    found = [(arm, difference(first[1], tensors)) for arm, tensors in others]
    arm, worst = max(found, key=lambda one: severity(one[1].largest))
    where = f"largest between {first[0]} and {arm}, at {worst.place}"
    yield _held(name, worst.largest, "of the tensor's largest", where, bound(name))
    arm, worst = max(found, key=lambda one: severity(one[1].mean))
    where = f"on the mean, between {first[0]} and {arm}"
    yield _held(name + MEAN, worst.mean, "of the mean size", where, bound(name + MEAN))


def _held(name: str, measured: float, unit: str, where: str, bound: float | None) -> Verdict:
    """Make a verdict that says where the difference is, whether it passes or not."""
    if bound is None:
        return Verdict(name, "warned", measured, UNKNOWN, unit, where)
    message = f"{measured:.3g} {unit}, {where}; {bound:.3g} is allowed"
    ok = measured <= bound
    return Verdict(name, "passed" if ok else "failed", measured, f"<= {bound:.3g}", unit, message)


def _ratio(quantity: Quantity, relation: Relation, sides: Sequence[Side]) -> Verdict:
    name = RATIO + quantity
    assert relation.ratio is not None
    first, others = sides[0], sides[1:]
    low = -math.inf if relation.ratio.min is None else relation.ratio.min
    high = math.inf if relation.ratio.max is None else relation.ratio.max
    # A figure of 0 was not measured: whatever computes takes memory.
    if absent := [side.name for side in sides if not side.figures.get(quantity)]:
        return missing(name, f"{quantity} in arm {', '.join(absent)}")
    size = first.figures[quantity]
    ratios = [(side.figures[quantity] / size, side.name) for side in others]
    worst, arm = max(ratios, key=lambda one: severity(max(one[0] - high, low - one[0])))
    message = f"{quantity} of arm {arm} is {worst:.3g} times that of {first.name} ({size:.4g} MB)"
    verdict = within(name, worst, relation.ratio.min, relation.ratio.max, message, unit="times")
    return replace(verdict, message=message)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
