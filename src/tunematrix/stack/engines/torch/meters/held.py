"""Tensors that stay in memory beside a model: copies, graphs, caches that nobody lets go."""

from __future__ import annotations

import gc
from collections.abc import Iterable

import torch
from torch import nn

from tunematrix.evidence.events import Held
from tunematrix.stack.engines.torch.meters.storage import all_stored
from tunematrix.stack.quantizers.common import Quantizer


class HeldMeter:
    """Leaves out what was in memory before it was made: cells may share a process."""

    def __init__(self) -> None:
        self.others = _alive()

    def measure(self, model: nn.Module, quantizer: Quantizer, when: str) -> Held:
        """Count the bytes of tensors but those of `model` and its gradients, each storage once."""
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        own = self.others | _storages((*all_stored(model, quantizer), *gradients))
        return Held(when, sum(size for place, size in _alive().items() if place not in own))


def _alive() -> dict[int, int]:
    gc.collect()
    # Some libraries' lazy objects answer isinstance by importing what they stand for.
    return _storages(o for o in gc.get_objects() if issubclass(type(o), torch.Tensor))


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
