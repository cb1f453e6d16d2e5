"""Whether several cells agree: their configurations, tensors and figures in, verdicts out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from tunematrix.checks.arithmetic import severity
from tunematrix.checks.bound import AtMost, between
from tunematrix.checks.differences import Side, difference, idle_step, values
from tunematrix.checks.registry import MEAN
from tunematrix.checks.verdict import Judgement, Outcome, Verdict, missing
from tunematrix.spec.bounds import Range
from tunematrix.spec.relation import LOGITS, RATIO, SAME, Figure, Quantity, Relation

FACTOR = 10
"""So many times the largest difference of honest runs is still equal."""
SIGHT = 0.01
"""Whatever is allowed, a difference of this share must show."""
UNRECORDED = SIGHT / 2
"""The tolerance where no honest runs have been recorded."""
BACKEND, _CLASS = "backend", ".implementation._target_"
Allowed: TypeAlias = Callable[[str], float | None]
"""The name of a verdict to the difference that honest runs have shown; None where none is known."""


def undeclared(sides: Sequence[Side], varied: Iterable[str]) -> tuple[str, ...]:
    """Name the settings in which sides differ, though the relation doesn't say so.

    Where they differ in the backend, that has chosen which class does what an option is for.
    """
    said = tuple(varied)
    follows = (_CLASS,) if BACKEND in said else ()
    trees = [dict(_leaves(side.config.model_dump())) for side in sides]
    keys = dict.fromkeys(key for tree in trees for key in tree)
    return tuple(
        key
        for key in keys
        if not any(key == name or key.startswith(f"{name}.") for name in said)
        and not key.endswith(follows)
        and any(tree.get(key) != trees[0].get(key) for tree in trees)
    )


def agree(relation: Relation, sides: Sequence[Side], allowed: Allowed) -> tuple[Verdict, ...]:
    """Hold every side against the first, in all that the relation compares."""
    verdicts: list[Verdict] = []
    for quantity in relation.compare:
        verdicts += _same(quantity, sides, partial(_bound, relation, quantity, sides, allowed))
    by_name = {side.name: side for side in sides}
    for figure, ranges in relation.ratio.items():
        arms = [(by_name[arm], wanted) for arm, wanted in ranges.items()]
        verdicts.append(_ratio(figure, sides[0], arms))
    return tuple(verdicts)


def _bound(
    relation: Relation, quantity: Quantity, sides: Sequence[Side], allowed: Allowed, name: str
) -> float:
    """Return the largest difference that passes."""
    theory = next((t for of, t in relation.tolerance.items() if of == quantity), None)
    if theory is not None:
        # The first arm's own error, so that no other can loosen what it is held to.
        rounding = sides[0].figures.get("logit_error", 0.0) if quantity == LOGITS else 0.0
        return theory + relation.of_rounding * rounding
    spread = allowed(name)
    return UNRECORDED if spread is None else FACTOR * spread


def _same(
    quantity: Quantity, sides: Sequence[Side], bound: Callable[[str], float]
) -> Iterator[Verdict]:
    name = SAME + quantity
    first, *others = ((side.name, values(quantity, side)) for side in sides)
    if absent := [arm for arm, tensors in (first, *others) if not tensors]:
        yield missing(f"{quantity} in arm {', '.join(absent)}").verdict(name)
        return
    if still := idle_step(first[1]) if quantity in ("gradients", "updates") else "":
        # Nothing agrees with nothing.
        yield missing(f"{quantity} other than 0 in {still} of arm {first[0]}").verdict(name)
        return
    apart = [(arm, difference(first[1], tensors)) for arm, tensors in others]
    arm, worst = max(apart, key=lambda one: severity(one[1].largest))
    where = f"largest between {first[0]} and {arm}, at {worst.place}"
    yield _apart(name, worst.largest, "of the tensor's largest", where, bound(name))
    arm, worst = max(apart, key=lambda one: severity(one[1].mean))
    where = f"on the mean, between {first[0]} and {arm}"
    yield _apart(name + MEAN, worst.mean, "of the mean size", where, bound(name + MEAN))


def _apart(name: str, measured: float, unit: str, where: str, most: float) -> Verdict:
    """Make a verdict that says where the difference is, whether it passes or not."""
    message = f"{measured:.3g} {unit}, {where}; {most:.3g} is allowed"
    bound = AtMost(most)
    outcome: Outcome = "passed" if bound.holds(measured) else "failed"
    return Verdict(name, outcome, measured, bound, unit, message)


def _ratio(figure: Figure, first: Side, arms: Sequence[tuple[Side, Range]]) -> Verdict:
    """Return the verdict of the arm that is farthest outside of its bounds."""
    # A figure of 0 was not measured: whatever computes takes memory.
    sides = [first, *(side for side, _ in arms)]
    if absent := [side.name for side in sides if not side.figures.get(figure)]:
        return missing(f"{figure} in arm {', '.join(absent)}").verdict(RATIO + figure)
    size = first.figures[figure]
    judgements = []
    for side, wanted in arms:
        ratio, bound = side.figures[figure] / size, between(wanted.min, wanted.max)
        message = f"{figure} of arm {side.name} is {ratio:.3g} times {first.name}'s, {size:.4g} MB"
        outcome: Outcome = "passed" if bound.holds(ratio) else "failed"
        excess = max(ratio - _or(wanted.max, math.inf), _or(wanted.min, -math.inf) - ratio)
        judgements.append((severity(excess), Judgement(outcome, ratio, bound, message)))
    return max(judgements, key=lambda one: one[0])[1].verdict(RATIO + figure, "times")


def _or(bound: float | None, absent: float) -> float:
    return absent if bound is None else bound


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
