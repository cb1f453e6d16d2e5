"""What trains, copied before and after each optimizer step, once for all meters that compare it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn
from torch.optim.optimizer import Optimizer

from tunematrix.stack.engines.torch.meters.gradients import followed
from tunematrix.stack.engines.torch.meters.hooks import around_steps
from tunematrix.stack.engines.torch.shards import end_to_end, own

INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""By bytes of an element: what is not a number equals itself as an integer."""

Kind: TypeAlias = tuple[torch.dtype, torch.device]


@dataclass(frozen=True)
class Alike:
    """The bits of tensors of one kind, which lie end to end.

    Attributes:
        kind: dtype and device; bits: integers, (elements,).
        numbers: of the tensors among all that were copied at once; sizes: elements of each.
    """

    kind: Kind
    bits: torch.Tensor
    numbers: Sequence[int]
    sizes: Sequence[int]


Bits: TypeAlias = tuple[Alike, ...]
"""Of some tensors."""


class StepCopies:
    """Copies the parameters that are followed, and what the optimizer remembers of them.

    Of a large model those are a part, which is all that the copies take room for.

    Attributes:
        parameters, moments: as they are now; earlier: parameters as they were copied before that.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._places: list[tuple[nn.Module, str]] = []
        self._followed: list[nn.Parameter] = []
        self.earlier: Bits = ()
        self.parameters: Bits = ()
        self.moments: Bits = ()
        self.take()

    def take(self, optimizer: Optimizer | None = None) -> None:
        """Copy them; moments where there is an optimizer."""
        self.earlier, self._followed = self.parameters, self._looked_up()
        found = _moments(optimizer, self._followed) if optimizer is not None else []
        self.parameters, self.moments = bits_of(self._followed, found)

    def around(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Copy them at one end of a step."""
        self.take(optimizer)

    def still(self) -> Set[int]:
        """Return the ids of parameters that are as they were at the copy before the last one."""
        found: set[int] = set()
        for old, new in zip(self.earlier, self.parameters, strict=False):
            if (old.kind, old.numbers, old.sizes) != (new.kind, new.numbers, new.sizes):
                continue
            starts = list(accumulate(new.sizes[:-1], initial=0))
            differs = old.bits.cpu().numpy() != new.bits.cpu().numpy()
            moved = np.logical_or.reduceat(differs, starts)
            found |= {
                id(self._followed[number])
                for number, some in zip(new.numbers, moved, strict=True)
                if not some
            }
        return found

    def _looked_up(self) -> list[nn.Parameter]:
        # Looked up in their modules each time, since sharding replaces parameters when a trainer
        # begins; going through the whole model at each step would cost more than the comparison.
        found = [module._parameters.get(name) for module, name in self._places]
        known = [parameter for parameter in found if parameter is not None]
        if not known or len(known) < len(found):
            self._places = _places(self.model)
            known = [module.get_parameter(name) for module, name in self._places]
        return known


@contextmanager
def watch(copies: StepCopies) -> Iterator[None]:
    """Copy around the steps of any optimizer meanwhile, before others look at the copies."""
    with around_steps(copies.around, copies.around):
        yield


def bits_of(*several: Sequence[torch.Tensor]) -> list[Bits]:
    """Copy the bits of several lists of tensors."""
    tensors = [own(tensor) for some in several for tensor in some]
    ends = list(accumulate(map(len, several)))
    found: list[list[Alike]] = [[] for _ in several]
    for kind, numbers in _by_kind(tensors).items():
        alike = [tensors[number] for number in numbers]
        # All lists at once: what takes time is finding the operator, and not copying.
        with torch.no_grad():
            copy = end_to_end(alike)
        sizes = [tensor.numel() for tensor in alike]
        cuts = [bisect_left(numbers, end) for end in (0, *ends)]
        parts = [slice(*cut) for cut in pairwise(cuts)]
        pieces = copy.view(INTEGERS[copy.element_size()]).split([sum(sizes[one]) for one in parts])
        for some, part, bits in zip(found, parts, pieces, strict=True):
            if len(bits):
                some.append(Alike(kind, bits, list(numbers[part]), sizes[part]))
    return [tuple(some) for some in found]


def _by_kind(tensors: Sequence[torch.Tensor]) -> Mapping[Kind, Sequence[int]]:
    """Return the numbers of the tensors of each kind, in their order."""
    kinds = [(tensor.dtype, tensor.device) for tensor in tensors]
    if len(each := set(kinds)) == 1:
        return {each.pop(): range(len(tensors))}
    found: dict[Kind, list[int]] = {}
    for number, kind in enumerate(kinds):
        found.setdefault(kind, []).append(number)
    return found


def _moments(optimizer: Optimizer, followed: Sequence[nn.Parameter]) -> list[torch.Tensor]:
    """Return all that an optimizer remembers of some parameters."""
    states = [optimizer.state.get(p, {}) for p in followed]
    found = [state[key] for state in states for key in sorted(state)]
    return [value for value in found if isinstance(value, torch.Tensor)]


def _places(model: nn.Module) -> list[tuple[nn.Module, str]]:
    """Return the module that has each parameter which is followed, and its name in there."""
    names = [name.rpartition(".") for name, _ in followed(model)]
    return [(model.get_submodule(owner), name) for owner, _, name in names]
