"""What training changed: trained tensors by value, frozen ones bit for bit."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import nn

from tunematrix.evidence.events import Changed, Trainable
from tunematrix.stack.quantizers.common import TorchQuantizer, plain_tensors


@dataclass(frozen=True)
class TorchSnapshot:
    """A model's state before training.

    Attributes:
        trained: copies of the parameters that require a gradient, by name.
        frozen: digest of every other stored tensor, by layer name and position.
    """

    trained: dict[str, torch.Tensor]
    frozen: dict[str, bytes]


def trainable(model: nn.Module, expected: tuple[str, ...]) -> Trainable:
    """Compare what requires a gradient with what the method must train."""
    actual = tuple(name for name, p in model.named_parameters() if p.requires_grad)
    return Trainable(expected=expected, actual=actual)


def snapshot(model: nn.Module, quantizer: TorchQuantizer) -> TorchSnapshot:
    """Copy what may change and digest what must not."""
    trained = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    return TorchSnapshot(trained=trained, frozen=_digests(model, quantizer))


def compare(before: TorchSnapshot, model: nn.Module, quantizer: TorchQuantizer) -> Changed:
    """Say which tensors differ from `before`."""
    now = dict(model.named_parameters())
    same = {name for name, old in before.trained.items() if _equal(old, now[name])}
    frozen = _digests(model, quantizer)
    altered = [name for name, digest in before.frozen.items() if frozen.get(name) != digest]
    return Changed(
        moved=tuple(name for name in before.trained if name not in same),
        still=tuple(sorted(same)),
        zero=tuple(name for name in before.trained if _is_zero(now[name])),
        altered=tuple(altered),
        frozen=len(before.frozen),
    )


def digest(model: nn.Module) -> str:
    """Return a short name for the bits of all trained parameters."""
    found = hashlib.blake2b(digest_size=16)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            found.update(name.encode() + _digest(parameter))
    return found.hexdigest()


def _equal(old: torch.Tensor, new: torch.Tensor) -> bool:
    pairs = zip(plain_tensors(old), plain_tensors(new), strict=True)
    return all(torch.equal(before, after) for before, after in pairs)


def _is_zero(tensor: torch.Tensor) -> bool:
    return not any(bool(plain.any()) for plain in plain_tensors(tensor))


def _digests(model: nn.Module, quantizer: TorchQuantizer) -> dict[str, bytes]:
    training = {p.data_ptr() for p in model.parameters() if p.requires_grad}
    digests: dict[str, bytes] = {}
    for name, layer in model.named_modules():
        for position, tensor in enumerate(quantizer.stored(layer)):
            if tensor.data_ptr() not in training:
                digests[f"{name}#{position}"] = _digest(tensor)
    return digests


def _digest(tensor: torch.Tensor) -> bytes:
    data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return hashlib.blake2b(data, digest_size=16).digest()
