"""What trains, from the end of one optimizer step to the beginning of the next: the same bits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

import torch
from torch.optim.optimizer import Optimizer

from tunematrix.evidence.events import Continuity
from tunematrix.stack.engines.torch.meters.copies import Bits, StepCopies
from tunematrix.stack.engines.torch.meters.hooks import around_steps


class ContinuityMeter:
    """Compares the bits of parameters and of the optimizer's moments with what they were.

    Args:
        copies: are taken before this meter looks.
        goes_back: whether training may end with what an earlier step has left.

    Attributes:
        step: optimizer steps so far; links: comparisons so far.
        broken: what differed, and where.
    """

    def __init__(self, copies: StepCopies, *, goes_back: bool = False) -> None:
        self.copies = copies
        self.left: list[str] | None = [] if goes_back else None
        self.step = self.links = 0
        self.broken: list[str] = []
        self.parameters = copies.parameters
        self.moments: Bits | None = None

    def before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Compare what a step finds with what the one before it left."""
        self._compare(f"before step {self.step}")
        # What has been resumed may have found its moments on a disk, as they were.
        if self.moments is not None and not _are_same(self.copies.moments, self.moments):
            self.broken.append(f"moments before step {self.step}")

    def after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Remember what a step has left."""
        self.step += 1
        self.parameters, self.moments = self.copies.parameters, self.copies.moments
        if self.left is not None:
            self.left.append(_digest(self.parameters))

    def event(self) -> Continuity:
        """Compare what the last step left with what there is now, and say what was seen."""
        self.copies.take()
        if self.left is not None:
            now = _digest(self.copies.parameters)
            same = tuple(step for step, one in enumerate(self.left, start=1) if one == now)
            return Continuity(self.links + 1, tuple(self.broken), same)
        self._compare(f"after step {self.step - 1}")
        return Continuity(self.links, tuple(self.broken))

    def _compare(self, when: str) -> None:
        self.links += 1
        if not _are_same(self.copies.parameters, self.parameters):
            self.broken.append(f"parameters {when}")


@contextmanager
def watch(meter: ContinuityMeter) -> Iterator[None]:
    """Let `meter` see the steps of any optimizer meanwhile."""
    with around_steps(meter.before, meter.after):
        yield


def _digest(bits: Bits) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for one in bits:
        digest.update(one.bits.cpu().numpy().tobytes())
    return digest.hexdigest()


def _are_same(some: Bits, others: Bits) -> bool:
    # Of two dtypes or devices, PyTorch would refuse to say whether they are equal.
    return all(
        a is not None and b is not None and a.kind == b.kind and _equal(a.bits, b.bits)
        for a, b in zip_longest(some, others)
    )


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    # In memory of the CPU, NumPy tells it in a third of the time.
    if one.device.type == "cpu":
        return len(one) == len(other) and bool((one.numpy() == other.numpy()).all())
    return torch.equal(one, other)
