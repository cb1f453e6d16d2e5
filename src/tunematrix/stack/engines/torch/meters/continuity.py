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
        self._places: list[tuple[nn.Module, str]] = []
        self._parameter_sums, self._moment_sums = BitSums(), BitSums()
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
        return self._parameter_sums.of([p.detach() for p in self._followed()])

    def _moments(self, optimizer: Optimizer) -> list[int]:
        states = [optimizer.state.get(p, {}) for p in self._followed()]
        found = [state[key] for state in states for key in sorted(state)]
        return self._moment_sums.of([value for value in found if isinstance(value, torch.Tensor)])

    def _followed(self) -> list[nn.Parameter]:
        # Looked up in their modules each time, since sharding replaces parameters when a trainer
        # begins; going through the whole model at each step would cost more than the comparison.
        found = [module._parameters.get(name) for module, name in self._places]
        known = [parameter for parameter in found if parameter is not None]
        if not known or len(known) < len(found):
            self._places = _places(self.model)
            known = [module.get_parameter(name) for module, name in self._places]
        return known


@contextmanager
def watch(meter: ContinuityMeter) -> Iterator[None]:
    """Let `meter` see the steps of any optimizer meanwhile."""
    with around_steps(meter.before, meter.after):
        yield


def _places(model: nn.Module) -> list[tuple[nn.Module, str]]:
    """Return the module that has each parameter which is followed, and its name in there."""
    names = [name.rpartition(".") for name, _ in followed(model)]
    return [(model.get_submodule(owner), name) for owner, _, name in names]


class BitSums:
    """Sums over the bits of tensors that are looked at again and again.

    What it needs for that is kept from one time to the next: views of the tensors that it has been
    given last, and the weights of their places.
    """

    def __init__(self) -> None:
        self._views: dict[tuple[int, int, torch.dtype, torch.device], torch.Tensor] = {}
        self._weights: dict[tuple[int, torch.dtype, torch.device], torch.Tensor] = {}

    def of(self, tensors: list[torch.Tensor]) -> list[int]:
        """Return one for all tensors of a size and device, each bit weighed by its place."""
        groups: dict[tuple[torch.dtype, torch.device], list[torch.Tensor]] = {}
        views = {}
        for tensor in tensors:
            here = own(tensor)
            key = (here.data_ptr(), here.numel(), here.dtype, here.device)
            if (bits := self._views.get(key)) is None or not here.is_contiguous():
                bits = here.contiguous().reshape(-1).view(INTEGERS[here.element_size()])
            views[key] = bits
            groups.setdefault((bits.dtype, bits.device), []).append(bits)
        self._views = views
        return [self._sum(torch.cat(bits)) for bits in groups.values()]

    def _sum(self, bits: torch.Tensor) -> int:
        key = (len(bits), bits.dtype, bits.device)
        if (weights := self._weights.get(key)) is None:
            # Odd ones, under which no single change is lost where the product overflows.
            odd = torch.arange(1, 2 * len(bits), 2, dtype=torch.int64, device=bits.device)
            self._weights = {**self._weights, key: (weights := odd.to(bits.dtype))}
        return int((bits * weights).sum(dtype=torch.int64))
