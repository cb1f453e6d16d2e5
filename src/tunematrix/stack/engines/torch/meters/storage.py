"""Bytes that the base's layers and the whole model really store."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from tunematrix.evidence.events import Storage, StoredLayer
from tunematrix.stack.engines.common import Base
from tunematrix.stack.quantizers.common import TorchQuantizer


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
