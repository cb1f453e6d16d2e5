"""What each engine's meters follow alike, so that one bound can be held against all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from tunematrix.configuration import Configuration
from tunematrix.configuration.options import OptimizerOption

Candidate = TypeVar("Candidate")

AUDITED_STEPS = 3
"""Optimizer steps, from the first, that are recomputed."""
AUDITED_ELEMENTS = 2_000_000
"""Of all parameters; of a larger model, those tensors that fit are followed."""
SAMPLED_ELEMENTS = 200_000
"""Of a larger model's gradients: more would show in the memory that training is said to take."""
MEMORY_STEPS = 2
"""Of the separate pass for the allocator's peak."""


def within(
    budget: int, candidates: Iterable[Candidate], size: Callable[[Candidate], int]
) -> Iterator[Candidate]:
    """Yield what fits into a budget of elements; what is too large is passed over, not the rest."""
    for candidate in candidates:
        if size(candidate) <= budget:
            budget -= size(candidate)
            yield candidate


def audited_steps(total: int) -> frozenset[int]:
    """Return the steps, from 0, whose loss and gradient are recomputed: each takes another pass."""
    return frozenset({0, total - 1})


@dataclass(frozen=True)
class Formula:
    """What the configuration asks of the optimizer.

    Attributes:
        name: adamw, adam or sgd.
        settings: its option.
        weight_decay: of the parameters that the engine's trainer lets decay.
    """

    name: str
    settings: OptimizerOption
    weight_decay: float

    @classmethod
    def of(cls, config: Configuration) -> Formula:
        """Read it off a composed configuration."""
        optimizer = config.optimizer
        return cls(optimizer.name, optimizer, config.train.weight_decay)
