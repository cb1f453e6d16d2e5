"""Elements of tensors, and digests of them, at a cost that doesn't grow with the model's size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .state import plain

STRIDED = 96
AROUND = 32
"""Elements that are followed of a tensor: spread evenly, and around its largest gradient, where
that of an embedding isn't zero."""
WHOLE = {"cpu": 2 << 30, "other": 32 << 30}
"""Bytes of a model whose digests are of all of it."""
PART = 1 << 16
"""Elements of a tensor whose digest is of a part."""
COMPARED = 2_000_000
"""Elements of a model's gradients that are compared with our own: of a larger one so many, from all
tensors."""
LEAST = 4096
"""Of these, from each tensor at least, where it has them."""


def places(gradient: torch.Tensor) -> torch.Tensor:
    """Return which elements of a flat tensor are followed, (elements,), by its flat gradient."""
    count = gradient.numel()
    if count <= STRIDED + AROUND:
        return torch.arange(count, device=gradient.device)
    spread = torch.arange(STRIDED, device=gradient.device) * (count // STRIDED)
    peak = gradient.abs().argmax()
    around = (peak - AROUND // 2 + torch.arange(AROUND, device=gradient.device)).clamp(0, count - 1)
    return torch.cat([spread, around])


def flat(tensor: Any) -> torch.Tensor:
    """Return a tensor's own elements one after the other, (elements,), without its graph."""
    return plain(tensor).reshape(-1)


def together(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return tensors in float64 on the CPU, with one transfer for each device and dtype."""
    groups: dict[tuple[Any, Any], list[int]] = {}
    for place, tensor in enumerate(tensors):
        groups.setdefault((tensor.device, tensor.dtype), []).append(place)
    found: list[Any] = [None] * len(tensors)
    for members in groups.values():
        joined = torch.cat([tensors[m].reshape(-1) for m in members]).cpu().double()
        for member, part in zip(members, joined.split([tensors[m].numel() for m in members])):
            found[member] = part
    return found


def strides(parameters: list[Any]) -> dict[int, int]:
    """Return, by a parameter's id, of how many elements of its gradient one is compared.

    Odd, so that no column of a matrix is left out.
    """
    share = -(-sum(p.numel() for p in parameters) // COMPARED)
    return {id(p): max(1, min(share, p.numel() // LEAST)) | 1 for p in parameters}


@contextmanager
def taking(parameters: list[Any], every: dict[int, int]) -> Iterator[dict[int, torch.Tensor]]:
    """Take elements of gradients that `torch.autograd.grad` makes meanwhile, one after the other.

    What is returned there is empty of meaning: so never more than one gradient is in memory.

    Args:
        parameters: without hooks of others. every: as `strides`.
    """
    taken: dict[int, torch.Tensor] = {}

    def follow(parameter: Any) -> Any:
        def take(gradient: Any) -> Any:
            if gradient is None or gradient.is_sparse:
                return None
            taken[id(parameter)] = flat(gradient)[:: every[id(parameter)]].clone()
            return gradient.new_zeros(()).expand(gradient.shape)

        return parameter.register_hook(take)

    handles = [follow(parameter) for parameter in parameters]
    try:
        yield taken
    finally:
        for handle in handles:
            handle.remove()


def digest(tensor: Any, whole: bool) -> torch.Tensor:
    """Return a number that changes with a tensor's bits, int64 on its device, ().

    A sum over all of its bits as integers, and another of some of them by their places.
    """
    values = flat(tensor)
    if not whole and values.numel() > PART:
        values = values[:: values.numel() // PART].contiguous()
    bits = _integers(values)
    some = bits[:: max(1, bits.numel() // 1024)]
    places_of = torch.arange(1, some.numel() + 1, device=some.device)
    return bits.sum(dtype=torch.int64) + (some.long() * places_of).sum() * 2654435761


def _integers(values: torch.Tensor) -> torch.Tensor:
    if values.dtype == torch.bool:
        return values.to(torch.uint8)
    if not values.is_contiguous():
        values = values.contiguous()
    size = values.element_size()
    # As eight bytes each, a sum needs no conversion, and is several times as fast.
    if size < 8 and values.numel() % (8 // size) == 0 and not values.storage_offset() % (8 // size):
        return values.view(torch.int64)
    return values.view({1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[size])


def fits_whole(tensors: list[Any]) -> bool:
    """Whether digests of all of these tensors are affordable."""
    size = sum(plain(t).numel() * plain(t).element_size() for t in tensors)
    on_cpu = all(t.device.type == "cpu" for t in tensors)
    return size <= WHOLE["cpu" if on_cpu else "other"]
