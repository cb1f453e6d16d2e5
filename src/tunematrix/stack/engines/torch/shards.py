"""Tensors that may be spread over processes: all of one, and the part that is here."""

from __future__ import annotations

import torch
from torch.distributed.tensor import DTensor


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return all of a tensor; where it is spread, every process must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own(tensor: torch.Tensor) -> torch.Tensor:
    """Return this process's part of a tensor, which is all of it where it isn't spread."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
