"""How far two cells are apart: compares the tensors that each kept, gives one `Difference`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from tunematrix.checks.arithmetic import severity
from tunematrix.configuration import Configuration
from tunematrix.evidence.tensors import Array, Kind, TensorKey, Tensors
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
    config: Configuration
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
    """Return the tensors of a quantity that a side has."""
    import numpy as np

    if quantity == "losses":
        return {TensorKey("loss", step): np.array(loss) for step, loss in side.losses.items()}
    if quantity == "logits":
        logits = side.tensors.get(TensorKey("logits", name=side.stage))
        # Without the stage's name: the arms may bring those of different stages.
        return {} if logits is None else {TensorKey("logits"): logits}
    if quantity == "gradients":
        return _of_kind(side.tensors, "gradient")
    if quantity == "state":
        # Generators alone would vouch for moments that nobody has kept.
        moments = _of_kind(side.tensors, "state")
        return moments and moments | _of_kind(side.tensors, "random")
    parameters = _of_kind(side.tensors, "parameter")
    last = max((key.step or 0 for key in parameters), default=0)
    if quantity == "parameters":
        return {key: tensor for key, tensor in parameters.items() if key.step == last}
    return {
        replace(key, kind="update"): parameters.get(replace(key, step=key.step + 1), np.nan)
        - before
        for key, before in parameters.items()
        if key.step is not None and key.step < last
    }


def difference(first: Tensors, other: Tensors) -> Difference:
    """Compare tensors of the same names; one that is on one side alone is infinitely far."""
    if alone := sorted(map(str, first.keys() ^ other.keys())):
        return Difference(math.inf, math.inf, f"{alone[0]}, on one side alone")
    groups: dict[TensorKey, list[TensorKey]] = {}
    for key in first:
        groups.setdefault(_group(key), []).append(key)
    differences = [_of_one_size(keys, first, other) for keys in groups.values()]
    worst = max(differences, key=lambda one: severity(one.largest))
    mean = max((one.mean for one in differences), key=severity)
    return Difference(worst.largest, mean, worst.place)


def idle_step(tensors: Tensors) -> str:
    """Return the first step in which all is 0, in words; empty where there is none."""
    sizes: dict[str, float] = {}
    for key, tensor in tensors.items():
        step = f"step {key.step}"
        sizes[step] = max(sizes.get(step, 0.0), _largest(tensor), key=severity)
    return next((step for step, size in sizes.items() if size == 0), "")


def _group(key: TensorKey) -> TensorKey:
    """Return the group of tensors of one size: one kind in one step, or a part of the state."""
    return replace(key, name=key.name if key.kind == "random" else "")


def _of_one_size(keys: list[TensorKey], first: Tensors, other: Tensors) -> Difference:
    tops = {key: _largest(first[key]) for key in keys}
    floor = SMALL * max(tops.values())
    errors = {key: _errors(first[key], other[key]) for key in keys}
    shares = {key: _share(_largest(errors[key]), max(tops[key], floor)) for key in keys}
    worst = max(shares, key=lambda key: severity(shares[key]))
    error, size = (sum(_sum(tensors[key]) for key in keys) for tensors in (errors, first))
    return Difference(shares[worst], _share(error, size), _place(worst))


def _place(key: TensorKey) -> str:
    """Say in words where a tensor belongs."""
    if key.step is None:
        return " ".join(filter(None, (key.kind, key.name, key.part)))
    if key.kind == "loss":
        return f"loss, step {key.step}"
    return f"{key.name}, {key.kind} of step {key.step}"


def _of_kind(tensors: Tensors, kind: Kind) -> dict[TensorKey, Array]:
    return {key: tensor for key, tensor in tensors.items() if key.kind == kind}


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
