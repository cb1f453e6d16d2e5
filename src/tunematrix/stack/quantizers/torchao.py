"""torchao through its own `quantize_`: SFTTrainer refuses int4 loaded by TorchAoConfig."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import nn
from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig, quantize_
from torchao.quantization.granularity import PerGroup
from transformers import PreTrainedModel

from tunematrix.stack.quantizers.common import Placement, from_pretrained, own_tensors


class TorchAo:
    """Weight-only int8 by row, or int4 values in groups.

    Attributes:
        bits: 4 or 8.
        group_size: weights that share a scale (int4 only).
    """

    prepares_for_kbit = False

    def __init__(self, bits: int, group_size: int = 32) -> None:
        self.bits = bits
        self.group_size = group_size

    def load(self, path: Path, linears: Sequence[str], placement: Placement) -> PreTrainedModel:
        """Load `path`, then quantize the layers named in `linears` in place."""
        model = from_pretrained(path, placement).to(placement.device)
        wanted = frozenset(linears)
        settings = (
            Int8WeightOnlyConfig()
            if self.bits == 8
            else IntxWeightOnlyConfig(
                weight_dtype=torch.int4, granularity=PerGroup(self.group_size)
            )
        )
        quantize_(model, settings, filter_fn=lambda _, name: name in wanted)
        return model

    def stored(self, layer: nn.Module) -> Iterator[torch.Tensor]:
        """Yield what is inside torchao's weight tensor."""
        yield from own_tensors(layer)
