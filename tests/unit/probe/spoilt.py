"""A loop of which each part can be replaced by one with a fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from tests.unit.probe.probe_loops import Words, next_token_loss, rows
from torch.optim import AdamW

Logits: TypeAlias = torch.Tensor
Ids: TypeAlias = torch.Tensor


@dataclass
class Loop:
    """A plain loop; each part can be replaced by one with a fault.

    Attributes:
        loss: of logits and tokens; passes: per step; before, after: called around each step.
    """

    model: Words = field(default_factory=Words)
    optimizer: Any = None
    loss: Callable[[Logits, Ids], torch.Tensor] = next_token_loss
    passes: int = 1
    steps: int = 2
    before: Callable[[Loop], object] = lambda loop: None
    after: Callable[[Loop], object] = lambda loop: loop.optimizer.zero_grad()
    ids: Callable[[], Ids] = rows

    def __call__(self) -> None:
        """Train."""
        self.optimizer = self.optimizer or AdamW(self.model.parameters(), lr=1e-2)
        for _ in range(self.steps):
            for _ in range(self.passes):
                ids = self.ids()
                (self.loss(self.model(ids), ids) / self.passes).backward()
            self.before(self)
            self.optimizer.step()
            self.after(self)
