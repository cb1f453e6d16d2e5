"""How far two cells are apart: what each kept of a quantity goes in, one `Difference` comes out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tunematrix.checks.figures import severity
from tunematrix.evidence.tensors import Array, Tensors
from tunematrix.spec.relation import Quantity

SMALL = 1e-3
"""A tensor whose largest value is a smaller share of its group's than this is held to that share:
its own rounding says nothing."""


@dataclass(frozen=True)
class Side:
    """What one arm of a relation brings.

    Attributes:
        name: the arm's; config: its composed configuration.
        tensors: what it kept; stage: whose logits it brings.
        losses: step to logged loss; figures: the record's metrics.
    """

    name: str
    config: Mapping[str, Any]
    tensors: Tensors
    stage: str
    losses: Mapping[int, float]
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Difference:
    """How far two sides are apart.

    Attributes:
        largest: largest difference of a value, relative to its tensor's largest.
        mean: mean difference, relative to the mean size, in the worst step or key of the state.
        place: where the largest is.
    """

    largest: float
    mean: float
    place: str


def values(quantity: Quantity, side: Side) -> Tensors:
    """Return what a side has of a quantity, by names such as `gradient/0/model.norm`."""
    import numpy as np

    if quantity == "losses":
        return {f"loss/{step}/": np.array(loss) for step, loss in side.losses.items()}
    if quantity == "logits":
        found = side.tensors.get(f"logits/{side.stage}")
        return {} if found is None else {"logits//": found}
    if quantity == "gradients":
        return _of_kind(side.tensors, "gradient")
    if quantity == "state":
        # Generators alone would vouch for moments that nobody has kept.
        moments = _of_kind(side.tensors, "state")
        return moments and moments | _of_kind(side.tensors, "random")
    parameters = _of_kind(side.tensors, "parameter")
    steps = sorted({int(name.split("/")[1]) for name in parameters})
    if quantity == "parameters":
        return {n: t for n, t in parameters.items() if n.startswith(f"parameter/{steps[-1]}/")}
    return {
        f"update/{step}/{name}": parameters.get(f"parameter/{step + 1}/{name}", np.nan) - before
        for step in steps[:-1]
        for name, before in _below(parameters, f"parameter/{step}/")
    }


def difference(first: Tensors, other: Tensors) -> Difference:
    """Compare tensors of the same names; one that is on one side alone is infinitely far."""
    if alone := sorted(first.keys() ^ other.keys()):
        return Difference(math.inf, math.inf, f"{alone[0]}, on one side alone")
    groups: dict[tuple[str, str], list[str]] = {}
    for name in first:
        groups.setdefault(_group(name), []).append(name)
    found = [_of_one_size(names, first, other) for names in groups.values()]
    worst = max(found, key=lambda one: severity(one.largest))
    mean = max((one.mean for one in found), key=severity)
    return Difference(worst.largest, mean, worst.place)


def idle_step(tensors: Tensors) -> str:
    """Return the first step in which all is 0; empty where there is none."""
    sizes: dict[str, float] = {}
    for name, tensor in tensors.items():
        step = "/".join(name.split("/")[:2])
        sizes[step] = max(sizes.get(step, 0.0), _largest(tensor), key=severity)
    return next((step for step, size in sizes.items() if size == 0), "")


def _group(name: str) -> tuple[str, str]:
    """Return what a tensor is of one size with: its kind in its step, or a key of the state."""
    kind, step, rest = (*name.split("/", 2), "", "")[:3]
    return (kind, rest) if kind == "state" else (kind, step)


def _of_one_size(names: list[str], first: Tensors, other: Tensors) -> Difference:
    tops = {name: _largest(first[name]) for name in names}
    floor = SMALL * max(tops.values())
    errors = {name: _errors(first[name], other[name]) for name in names}
    shares = {name: _share(_largest(errors[name]), max(tops[name], floor)) for name in names}
    worst = max(shares, key=lambda name: severity(shares[name]))
    error, size = (sum(_sum(one[n]) for n in names) for one in (errors, first))
    return Difference(shares[worst], _share(error, size), _place(worst))


def _place(name: str) -> str:
    """Say in words where a tensor belongs."""
    kind, step, tensor = (*name.split("/", 2), "", "")[:3]
    if not step.isdigit():
        return " ".join(filter(None, (kind, step, tensor)))
    return (
        f"{tensor or kind}, step {step}" if kind == "loss" else f"{tensor}, {kind} of step {step}"
    )


def _of_kind(tensors: Tensors, kind: str) -> dict[str, Array]:
    return {name: tensor for name, tensor in tensors.items() if name.startswith(f"{kind}/")}


def _below(tensors: Tensors, prefix: str) -> Iterator[tuple[str, Array]]:
    return ((n.removeprefix(prefix), t) for n, t in tensors.items() if n.startswith(prefix))


def _errors(first: Array, other: Array) -> Array:
    import numpy as np

    if first.shape != other.shape:
        return np.array(np.inf)
    with np.errstate(invalid="ignore"):  # infinity on both sides; the nan that it gives decides
        return np.abs(np.asarray(first, np.float64) - np.asarray(other, np.float64))


def _largest(array: Array) -> float:
    return float(abs(array).max()) if array.size else 0.0


def _sum(array: Array) -> float:
    return float(abs(array).sum(dtype=float))


def _share(error: float, size: float) -> float:
    return error / size if size else (0.0 if error == 0 else math.inf)
