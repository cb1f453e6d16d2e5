"""Bytes that the base's layers and the whole model really store."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from tunematrix.evidence.events import Storage, StoredLayer, StoredState
from tunematrix.stack.engines.common import Base
from tunematrix.stack.quantizers.common import TorchQuantizer
from tunematrix.stack.yardsticks import fineness


def measure(model: nn.Module, base: Base, quantizer: TorchQuantizer) -> Storage:
    """Count bytes right after loading: some libraries repack at the first forward pass."""
    layers = tuple(
        StoredLayer(name, shape, _bytes(_without_bias(quantizer, model.get_submodule(name))))
        for name, shape in zip(base.linears, base.shapes, strict=True)
    )
    return Storage(
        layers=layers,
        total_bytes=_bytes(all_stored(model, quantizer)),
    )


def states(model: nn.Module, base: Base, quantizer: TorchQuantizer) -> Iterator[StoredState]:
    """Yield how fine the float32 values are that quantized layers keep, by their place there."""
    kinds: dict[int, list[torch.Tensor]] = {}
    for name in base.linears:
        for place, tensor in enumerate(_without_bias(quantizer, model.get_submodule(name))):
            if tensor.dtype == torch.float32:
                kinds.setdefault(place, []).append(tensor.detach().flatten().cpu())
    for place, tensors in kinds.items():
        values = np.concatenate([np.atleast_1d(one.numpy()) for one in tensors])
        if (found := fineness.bits(values)) is not None:
            yield StoredState(f"{base.linears[0]}#{place}", found)


def all_stored(model: nn.Module, quantizer: TorchQuantizer) -> Iterator[torch.Tensor]:
    """Yield every tensor the model keeps, quantization state included."""
    for layer in model.modules():
        yield from quantizer.stored(layer)


def _without_bias(quantizer: TorchQuantizer, layer: nn.Module) -> Iterator[torch.Tensor]:
    """Yield what a layer keeps for its weight: a bias is added and not multiplied."""
    bias = None if layer.bias is None else layer.bias.data_ptr()
    return (tensor for tensor in quantizer.stored(layer) if tensor.data_ptr() != bias)


def _bytes(tensors: Iterator[torch.Tensor]) -> int:
    """Sum the sizes of `tensors`, tied ones once."""
    distinct = {(tensor.data_ptr(), tensor.nbytes): tensor.nbytes for tensor in tensors}
    return sum(distinct.values())
