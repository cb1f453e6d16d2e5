"""HQQ through its own loader: to transformers 5, its HqqConfig is "not available yet"."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch
from hqq.core.quantize import BaseQuantizeConfig, HQQLinear
from hqq.models.hf.base import AutoHQQHFModel
from peft import PeftModel
from torch import nn
from transformers import HqqConfig, PreTrainedModel

from tunematrix.stack.quantizers.common import InMemory, Placement, from_pretrained, own_tensors


class Hqq(InMemory):
    """Half-quadratic quantization with one scale and one zero point per group.

    Attributes:
        bits: 4 or 8.
        group_size: weights that share a scale and a zero point.
        through: hqq, or transformers: whose loader quantizes.
    """

    prepares_for_kbit = False
    unexportable = "transformers 5 neither saves nor loads hqq's layers"

    def __init__(
        self, bits: int, group_size: int, through: Literal["hqq", "transformers"] = "hqq"
    ) -> None:
        if through not in ("hqq", "transformers"):
            message = f"quantizer.implementation.through={through} is neither hqq nor transformers"
            raise ValueError(message)
        self.bits = bits
        self.group_size = group_size
        self.through = through

    def load(self, path: Path, linears: Sequence[str], placement: Placement) -> PreTrainedModel:
        """Load `path`, then let hqq replace its linear layers; or let transformers do both."""
        if self.through == "transformers":
            config = HqqConfig(nbits=self.bits, group_size=self.group_size)
            settings = {"quantization_config": config, "device_map": placement.device}
            return from_pretrained(path, placement, **settings)
        model = from_pretrained(path, placement)
        AutoHQQHFModel.quantize_model(
            model,
            quant_config=BaseQuantizeConfig(nbits=self.bits, group_size=self.group_size),
            compute_dtype=placement.compute,
            device=placement.device,
        )
        return model

    def dequantized(self, layer: nn.Module) -> torch.Tensor:
        """Subtract each group's zero point and multiply by its scale."""
        assert isinstance(layer, HQQLinear)
        weight: torch.Tensor = layer.dequantize()
        return weight

    def merge(self, attached: PeftModel, folder: Path, placement: Placement) -> nn.Module:
        """Merge an adapter in, save that in hqq's own format, and load it."""
        merged = super().merge(attached, folder, placement)
        folder.mkdir(parents=True, exist_ok=True)
        AutoHQQHFModel.save_quantized(merged, str(folder))
        loaded: nn.Module = AutoHQQHFModel.from_quantized(
            str(folder), compute_dtype=placement.compute, device=placement.device
        )
        return loaded

    def stored(self, layer: nn.Module) -> Iterator[torch.Tensor]:
        """Yield packed weights, scales and zero points; hqq keeps the latter in a dict."""
        if not isinstance(layer, HQQLinear):
            yield from own_tensors(layer)
            return
        yield layer.W_q.data
        yield from (t for t in layer.meta.values() if isinstance(t, torch.Tensor))
