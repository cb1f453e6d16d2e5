"""Tensors that stay in memory beside a model: copies, graphs, caches that nobody lets go."""

from __future__ import annotations

import gc
from collections.abc import Iterable

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from tunematrix.evidence.events import Held
from tunematrix.stack.engines.torch.meters.storage import all_stored
from tunematrix.stack.quantizers.common import TorchQuantizer


class HeldMeter:
    """Leaves out what was in memory before it was made: cells may share a process."""

    def __init__(self) -> None:
        self.others = [(place, StorageWeakRef(one)) for place, one in _alive().items()]

    def measure(self, model: nn.Module, quantizer: TorchQuantizer, when: str) -> Held:
        """Count the bytes of tensors but those of `model` and its gradients, each storage once."""
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        own = set(_storages((*all_stored(model, quantizer), *gradients)))
        # Where one of them has gone, something else may have come.
        own |= {place for place, one in self.others if not one.expired()}
        return Held(when, sum(s.nbytes() for place, s in _alive().items() if place not in own))


def _alive() -> dict[int, torch.UntypedStorage]:
    gc.collect()
    everything = gc.get_objects()
    # Some libraries' lazy objects answer isinstance by importing what they stand for; and there
    # are far fewer types than objects.
    kinds = {kind for kind in set(map(type, everything)) if issubclass(kind, torch.Tensor)}
    return _storages(one for one in everything if type(one) in kinds)


def _storages(tensors: Iterable[torch.Tensor]) -> dict[int, torch.UntypedStorage]:
    """Return the memory of `tensors`, by where it begins."""
    storages = {}
    for tensor in tensors:
        # A quantized tensor holds none itself: those inside do, which are among `tensors` too.
        if not is_traceable_wrapper_subclass(tensor) and tensor.layout == torch.strided:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage
    storages.pop(0, None)  # on meta, and empty ones
    return storages
