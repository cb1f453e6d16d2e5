"""Tensors that may be spread over processes: all of one, and the part that is here."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch._utils import _flatten_dense_tensors
from torch.distributed.tensor import DTensor


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return all of a tensor; where it is spread, every process must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own(tensor: torch.Tensor) -> torch.Tensor:
    """Return this process's part of a tensor, which is all of it where it isn't spread."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def end_to_end(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return a copy of tensors of one dtype and device as (elements,), one after the other.

    On a small model's, an operator takes as long for one of them as for all at once.
    """
    flat: torch.Tensor = _flatten_dense_tensors(tuple(tensors))
    return flat.clone() if len(tensors) == 1 else flat
