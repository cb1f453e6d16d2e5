"""What each engine's meters follow alike, so that one bound can be held against all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

AUDITED_STEPS = 3
"""Optimizer steps, from the first, that are recomputed."""
AUDITED_ELEMENTS = 2_000_000
"""Of all parameters; the rest of a larger model isn't followed."""
SAMPLED_ELEMENTS = 200_000
"""Of a larger model's gradients: more would show in the memory that training is said to take."""
MEMORY_STEPS = 2
"""Of the separate pass for the allocator's peak."""


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
