"""HQQ through its own loader: transformers 5 has no HqqConfig ("not available yet")."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from hqq.core.quantize import BaseQuantizeConfig, HQQLinear
from hqq.models.hf.base import AutoHQQHFModel
from torch import nn
from transformers import PreTrainedModel

from tunematrix.stack.quantizers.common import Placement, from_pretrained, own_tensors


class Hqq:
    """Half-quadratic quantization with one scale and one zero point per group.

    Attributes:
        bits: 4 or 8.
        group_size: weights that share a scale and a zero point.
    """

    prepares_for_kbit = False

    def __init__(self, bits: int, group_size: int) -> None:
        self.bits = bits
        self.group_size = group_size

    def load(self, path: Path, linears: Sequence[str], placement: Placement) -> PreTrainedModel:
        """Load `path`, then let hqq replace its linear layers."""
        model = from_pretrained(path, placement)
        AutoHQQHFModel.quantize_model(
            model,
            quant_config=BaseQuantizeConfig(nbits=self.bits, group_size=self.group_size),
            compute_dtype=placement.compute,
            device=placement.device,
        )
        return model

    def stored(self, layer: nn.Module) -> Iterator[torch.Tensor]:
        """Yield packed weights, scales and zero points; hqq keeps the latter in a dict."""
        if not isinstance(layer, HQQLinear):
            yield from own_tensors(layer)
            return
        yield layer.W_q.data
        yield from (t for t in layer.meta.values() if isinstance(t, torch.Tensor))
