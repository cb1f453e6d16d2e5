"""What each engine's meters follow alike, so that one bound can be held against all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

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
    """Return the steps, from 0, whose loss and gradient are recomputed: some early and late."""
    return frozenset({0, min(1, total - 1), total // 2, total - 1})


@dataclass(frozen=True)
class Formula:
    """What the configuration asks of the optimizer.

    Attributes:
        name: adamw, adam or sgd.
        settings: the option's own values (beta1, beta2, eps, momentum).
        weight_decay: of the parameters that the engine's trainer lets decay.
    """

    name: str
    settings: Mapping[str, Any]
    weight_decay: float

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Formula:
        """Read it off a composed configuration."""
        optimizer = config["optimizer"]
        return cls(str(optimizer["name"]), optimizer, float(config["train"]["weight_decay"]))
