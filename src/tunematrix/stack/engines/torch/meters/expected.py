"""Where parameters must be after a step, beside where they are; in float32, by NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tunematrix.stack.engines.common import Floats
from tunematrix.stack.engines.torch.shards import end_to_end, whole

Flat = TypeVar("Flat", Floats, torch.Tensor)


@dataclass(frozen=True)
class UpdateKind:
    """What a formula has to know of a parameter: its rate, its decay, and how fine it is."""

    rate: float
    decay: float
    dtype: torch.dtype
    device: torch.device


@dataclass(frozen=True)
class ExpectedUpdate:
    """Parameters of one kind, end to end.

    Attributes:
        parameters: as many as `old` is made of.
        old: where they were; new: where they must be after the step.
        pulled: which elements have a gradient; None where the rate is 0.
        vague: which are left out, since rounding decides where they go.
        most: elements of each that are followed; None follows all.
    """

    parameters: Sequence[nn.Parameter]
    old: Floats
    new: Floats
    pulled: NDArray[np.bool_] | None
    vague: NDArray[np.bool_]
    most: int | None

    def now(self) -> Floats:
        """Return where they are."""
        return float32(self.parameters, self.most)

    def error(self, finest: torch.dtype | None) -> np.float32:
        """Return how far off they are, beyond what rounding to `finest` or their own dtype does."""
        # A parameter can't be nearer than its dtype is fine, however small its step.
        room = torch.finfo(finest or self.parameters[0].dtype).eps * np.abs(self.new)
        return np.max(np.where(self.vague, 0, np.abs(self.now() - self.new) - room))


def float32(tensors: Sequence[torch.Tensor], most: int | None = None) -> Floats:
    """Copy tensors of one dtype, or at most `most` elements of each, end to end.

    Of small ones, NumPy takes a fraction of the time that PyTorch takes to find its operators.
    """
    with torch.no_grad():
        parts = [whole(one) for one in tensors]
        if most is not None:
            parts = [spread(one.reshape(-1), most) for one in parts]
        found: Floats = end_to_end(parts).float().cpu().numpy()
    return found


def _stride(elements: int, most: int) -> int:
    # An odd one comes by all columns of a matrix, which are even in number.
    return -(-elements // most) | 1


def taken(elements: int, most: int | None) -> int:
    """Return how many elements `spread` leaves of so many."""
    return elements if most is None else -(-elements // _stride(elements, most))


def spread(flat: Flat, most: int) -> Flat:
    """Return at most `most` elements of a vector, as far apart as they can be."""
    return flat[:: _stride(len(flat), most)]
