"""What a cell writes down of its adapters: where they start, and what they compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Attached:
    """What attaching the method changed before any training, on the probe.

    Attributes:
        difference: largest absolute logit difference to the loaded base.
        largest: largest absolute logit of that base.
        drawn: whether adapters were given values of their own, so that it must be another.
        apart: least over largest singular value of rows of all their first factors of one width;
            None where there are no two.
        width: root mean square of all their first factors, over that which LoRA draws; numbers: in
            all of them; None and 0 without an adapter.
    """

    difference: float
    largest: float
    drawn: bool
    apart: float | None = None
    width: float | None = None
    numbers: int = 0


class LayerScale(NamedTuple):
    """The factor of one layer's adapter.

    Attributes:
        name: of the layer.
        measured: <base(x) removed, B A x> over <B A x, B A x>.
    """

    name: str
    measured: float


@dataclass(frozen=True)
class AdapterScale:
    """The factor with which each adapter's product enters its layer's output."""

    layers: tuple[LayerScale, ...]


class LayerFormula(NamedTuple):
    """One adapted layer beside its method's formula.

    Attributes:
        name: of the layer.
        output: error of what leaves it (relative, in norms).
        gradient: largest error of the gradients of its trained tensors and its input (the same).
        independence: least over largest singular value of its first factor.
        rank: rows of that factor.
        base_gradient: error of the gradient that its base hands on to its input (relative, in
            norms), beside that of the weight that is stored; None where that isn't looked at.
    """

    name: str
    output: float
    gradient: float
    independence: float
    rank: int
    base_gradient: float | None = None


@dataclass(frozen=True)
class AdapterFormula:
    """Each trained adapter beside its method's formula, for rows drawn at random."""

    layers: tuple[LayerFormula, ...]


@dataclass(frozen=True)
class AdapterDropout:
    """What dropout did to the inputs of adapters while training.

    Attributes:
        inputs: elements other than 0 that entered adapted layers.
        zeroed: those of them that reached the adapter's first factor as 0.
        factor: by how much the others were multiplied; None where it wasn't measured.
        compared: pairs of elements that should be dropped independently of each other: of two
            rows of a batch, or of two passes of a layer.
        alike: those of them of which both or none were dropped.
    """

    inputs: int
    zeroed: int
    factor: float | None = None
    compared: int = 0
    alike: int = 0


class AdapterShare(NamedTuple):
    """How much of an adapter is in a layer that it was merged into.

    Attributes:
        name: of the layer.
        share: how many times what the adapter changes is in its weight: 1 where it was merged once.
        spread: standard deviation of that by the rounding of the weight.
        lost: how many times the same is missing from a weight that was stored by rounding the sum
            once; None where that wasn't looked at.
        lost_spread: standard deviation of that, if what is missing falls on either side.
    """

    name: str
    share: float
    spread: float
    lost: float | None = None
    lost_spread: float = 0.0
