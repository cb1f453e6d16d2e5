"""Tensors that stay in memory beside a model: copies, graphs, caches that nobody lets go."""

from __future__ import annotations

import gc
from collections.abc import Iterable

import torch
from torch import nn

from tunematrix.evidence.events import Held
from tunematrix.stack.engines.torch.meters.storage import all_stored
from tunematrix.stack.quantizers.common import Quantizer


def measure(model: nn.Module, quantizer: Quantizer, when: str) -> Held:
    """Count the bytes of all tensors but those of `model` and its gradients, each storage once."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    own = _storages((*all_stored(model, quantizer), *gradients))
    gc.collect()
    # Some libraries' lazy objects answer isinstance by importing what they stand for.
    alive = [found for found in gc.get_objects() if issubclass(type(found), torch.Tensor)]
    return Held(when, sum(s for place, s in _storages(alive).items() if place not in own))


def _storages(tensors: Iterable[torch.Tensor]) -> dict[int, int]:
    """Return where memory of `tensors` begins, and its bytes."""
    found = {}
    for tensor in tensors:
        try:
            storage = tensor.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
        except (RuntimeError, NotImplementedError):
            continue  # a quantized tensor around others, which hold the memory
    found.pop(0, None)  # on meta, and empty ones
    return found
