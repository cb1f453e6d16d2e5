"""What trains, from the end of one optimizer step to the beginning of the next: the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import Optimizer

from tunematrix.evidence.events import Continuity
from tunematrix.stack.engines.torch.meters.gradients import followed
from tunematrix.stack.engines.torch.meters.hooks import around_steps
from tunematrix.stack.engines.torch.shards import own

INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""By bytes of an element: sums of integers lose nothing, in whatever order they are taken."""


class ContinuityMeter:
    """Compares sums over the bits of parameters and of the optimizer's moments.

    Of a large model it looks at a part, which is all that it takes room for.

    Attributes:
        step: optimizer steps so far; links: comparisons so far.
        broken: what differed, and where.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.step = self.links = 0
        self.broken: list[str] = []
        self.parameters = self._parameters()
        self.moments: list[int] | None = None

    def before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Compare what a step finds with what the one before it left."""
        self._compare(f"before step {self.step}")
        # What has been resumed may have found its moments on a disk, as they were.
        if self.moments is not None and self._moments(optimizer) != self.moments:
            self.broken.append(f"moments before step {self.step}")

    def after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Remember what a step has left."""
        self.step += 1
        self.parameters, self.moments = self._parameters(), self._moments(optimizer)

    def event(self) -> Continuity:
        """Compare what the last step left with what there is now, and say what was seen."""
        self._compare(f"after step {self.step - 1}")
        return Continuity(self.links, tuple(self.broken))

    def _compare(self, when: str) -> None:
        self.links += 1
        if self._parameters() != self.parameters:
            self.broken.append(f"parameters {when}")

    def _parameters(self) -> list[int]:
        return _sums([p.detach() for p in self._followed()])

    def _moments(self, optimizer: Optimizer) -> list[int]:
        states = [optimizer.state.get(p, {}) for p in self._followed()]
        found = [state[key] for state in states for key in sorted(state)]
        return _sums([value for value in found if isinstance(value, torch.Tensor)])

    def _followed(self) -> list[nn.Parameter]:
        # Asked for again each time, since sharding replaces parameters when a trainer begins.
        return [parameter for _, parameter in followed(self.model)]


@contextmanager
def watch(meter: ContinuityMeter) -> Iterator[None]:
    """Let `meter` see the steps of any optimizer meanwhile."""
    with around_steps(meter.before, meter.after):
        yield


def _sums(tensors: list[torch.Tensor]) -> list[int]:
    """Return a sum over the bits of all tensors of a size and device, each weighed by its place."""
    groups: dict[tuple[torch.dtype, torch.device], list[torch.Tensor]] = {}
    for tensor in tensors:
        here = own(tensor)
        bits = here.contiguous().reshape(-1).view(INTEGERS[here.element_size()])
        groups.setdefault((bits.dtype, bits.device), []).append(bits)
    return [_sum(torch.cat(bits)) for bits in groups.values()]


def _sum(bits: torch.Tensor) -> int:
    # Odd weights, under which no single change is lost where the product overflows.
    weights = torch.arange(1, 2 * len(bits), 2, dtype=torch.int64, device=bits.device)
    return int((bits * weights.to(bits.dtype)).sum(dtype=torch.int64))
