"""What trains, from the end of one optimizer step to the beginning of the next: the same bits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.optimizer import Optimizer

from tunematrix.evidence.events import Continuity
from tunematrix.stack.engines.torch.meters.gradients import followed
from tunematrix.stack.engines.torch.meters.hooks import around_steps
from tunematrix.stack.engines.torch.shards import end_to_end, own

INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""By bytes of an element: what is not a number equals itself as an integer."""


class ContinuityMeter:
    """Compares the bits of parameters and of the optimizer's moments with copies of them.

    Of a large model it looks at a part, which is all that it takes room for.

    Args:
        goes_back: whether training may end with what an earlier step has left.

    Attributes:
        step: optimizer steps so far; links: comparisons so far.
        broken: what differed, and where.
    """

    def __init__(self, model: nn.Module, *, goes_back: bool = False) -> None:
        self.model = model
        self.left: list[str] | None = [] if goes_back else None
        self.step = self.links = 0
        self.broken: list[str] = []
        self._places: list[tuple[nn.Module, str]] = []
        self.parameters = _bits(self._followed())[0]
        self.moments: list[torch.Tensor] | None = None

    def before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Compare what a step finds with what the one before it left."""
        followed = self._followed()
        parameters, moments = _bits(followed, _moments(optimizer, followed))
        self._compare(parameters, f"before step {self.step}")
        # What has been resumed may have found its moments on a disk, as they were.
        if self.moments is not None and not _are_same(moments, self.moments):
            self.broken.append(f"moments before step {self.step}")

    def after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Remember what a step has left."""
        self.step += 1
        followed = self._followed()
        self.parameters, self.moments = _bits(followed, _moments(optimizer, followed))
        if self.left is not None:
            self.left.append(_digest(self.parameters))

    def event(self) -> Continuity:
        """Compare what the last step left with what there is now, and say what was seen."""
        if self.left is not None:
            now = _digest(_bits(self._followed())[0])
            same = tuple(step for step, one in enumerate(self.left, start=1) if one == now)
            return Continuity(self.links + 1, tuple(self.broken), same)
        self._compare(_bits(self._followed())[0], f"after step {self.step - 1}")
        return Continuity(self.links, tuple(self.broken))

    def _compare(self, parameters: Sequence[torch.Tensor], when: str) -> None:
        self.links += 1
        if not _are_same(parameters, self.parameters):
            self.broken.append(f"parameters {when}")

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


def _moments(optimizer: Optimizer, followed: Sequence[nn.Parameter]) -> list[torch.Tensor]:
    """Return all that an optimizer remembers of some parameters."""
    states = [optimizer.state.get(p, {}) for p in followed]
    found = [state[key] for state in states for key in sorted(state)]
    return [value for value in found if isinstance(value, torch.Tensor)]


def _bits(*kinds: Sequence[torch.Tensor]) -> list[list[torch.Tensor]]:
    """Copy the bits of tensors: of each kind, as a tensor of integers for a dtype and device."""
    groups: dict[tuple[torch.dtype, torch.device], list[list[torch.Tensor]]] = {}
    for number, tensors in enumerate(kinds):
        for tensor in tensors:
            group = groups.setdefault((tensor.dtype, tensor.device), [[] for _ in kinds])
            group[number].append(own(tensor))
    bits: list[list[torch.Tensor]] = [[] for _ in kinds]
    for group in groups.values():
        # All kinds at once: what takes time is finding the operator, and not copying.
        with torch.no_grad():
            copy = end_to_end([tensor for alike in group for tensor in alike])
        ends = [sum(tensor.numel() for tensor in alike) for alike in group]
        pieces = copy.view(INTEGERS[copy.element_size()]).split(ends)
        for found, piece in zip(bits, pieces, strict=True):
            found += [piece] if len(piece) else []
    return bits


def _digest(bits: Sequence[torch.Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for one in bits:
        digest.update(one.cpu().numpy().tobytes())
    return digest.hexdigest()


def _are_same(some: Sequence[torch.Tensor], others: Sequence[torch.Tensor]) -> bool:
    pairs = list(zip_longest(some, others))
    # Of two dtypes or devices, PyTorch would refuse to say whether they are equal.
    alike = all(
        a is not None and b is not None and (a.dtype, a.device) == (b.dtype, b.device)
        for a, b in pairs
    )
    return alike and all(_equal(a, b) for a, b in pairs)


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    # In memory of the CPU, NumPy tells it in a third of the time.
    if one.device.type == "cpu":
        return bool(np.array_equal(one.numpy(), other.numpy()))
    return torch.equal(one, other)
