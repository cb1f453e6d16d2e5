"""What trains, copied before and after each optimizer step, once for all meters that compare it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise
from operator import is_
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn
from torch.optim.optimizer import Optimizer

from tunematrix.stack.engines.torch.meters.gradients import followed
from tunematrix.stack.engines.torch.meters.hooks import around_steps
from tunematrix.stack.engines.torch.shards import own

INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""By bytes of an element: what is not a number equals itself as an integer."""
PLAIN = (torch.Tensor, nn.Parameter)
"""Types whose elements lie where they say; a library's own may keep them elsewhere."""

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
        self._layout = StepLayout(())
        self.earlier: Bits = ()
        self.parameters: Bits = ()
        self.moments: Bits = ()
        self.take()

    def take(self, optimizer: Optimizer | None = None) -> None:
        """Copy them; moments where there is an optimizer."""
        self.earlier, self._followed = self.parameters, self._looked_up()
        moments = _moments(optimizer, self._followed) if optimizer is not None else []
        both = (self._followed, moments)
        if not self._layout.is_of(both):
            self._layout = StepLayout(both)
        self.parameters, self.moments = self._layout.bits()

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


class StepLayout:
    """Where the tensors of several lists lie: what is found out once, while they stay there.

    Finding it out takes three times as long as copying a small model's tensors does.
    """

    def __init__(self, several: Sequence[Sequence[torch.Tensor]]) -> None:
        self._given = [tensor for some in several for tensor in some]
        self._lengths = list(map(len, several))
        tensors = [own(tensor) for tensor in self._given]
        # What a view of these shows is what they hold, whenever it is asked.
        self._stays = all(type(one) in PLAIN and one.is_contiguous() for one in self._given)
        self._pointers = [one.data_ptr() for one in tensors] if self._stays else []
        views = [one.detach().reshape(-1) for one in tensors]
        self._kinds = [
            _OfAKind(kind, numbers, [views[number] for number in numbers], self._lengths)
            for kind, numbers in _by_kind(tensors).items()
        ]

    def is_of(self, several: Sequence[Sequence[torch.Tensor]]) -> bool:
        """Whether these are the same tensors, and lie where they did."""
        if not self._stays or self._lengths != list(map(len, several)):
            return False
        now = [tensor for some in several for tensor in some]
        if not all(map(is_, now, self._given)):
            return False
        return [tensor.data_ptr() for tensor in now] == self._pointers

    def bits(self) -> list[Bits]:
        """Copy the bits of each list."""
        found: list[list[Alike]] = [[] for _ in self._lengths]
        for one in self._kinds:
            for place, alike in one.copies():
                found[place].append(alike)
        return [tuple(some) for some in found]


class _OfAKind:
    """The tensors of one kind in several lists.

    Args:
        kind: dtype and device; numbers: of the tensors among all; tensors: each as (elements,).
        lengths: of the lists.
    """

    def __init__(
        self,
        kind: Kind,
        numbers: Sequence[int],
        tensors: Sequence[torch.Tensor],
        lengths: Sequence[int],
    ) -> None:
        self.kind, self.tensors = kind, tensors
        sizes = [tensor.numel() for tensor in tensors]
        cuts = [bisect_left(numbers, end) for end in accumulate(lengths, initial=0)]
        parts = [slice(*cut) for cut in pairwise(cuts)]
        self.parts = [(list(numbers[part]), sizes[part]) for part in parts]
        self.elements = [sum(sizes) for _, sizes in self.parts]

    def copies(self) -> Iterator[tuple[int, Alike]]:
        """Yield what each list has of this kind, with the list's place."""
        # All lists at once: what takes time is finding the operator, and not copying.
        copy = torch.cat(self.tensors)
        pieces = copy.view(INTEGERS[copy.element_size()]).split(self.elements)
        for place, (bits, part) in enumerate(zip(pieces, self.parts, strict=True)):
            if len(bits):
                yield place, Alike(self.kind, bits, *part)


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
