"""bitsandbytes through transformers' BitsAndBytesConfig, the way QLoRA's users load."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.functional import QuantState, dequantize_4bit, int8_vectorwise_dequant
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from tunematrix.stack.quantizers.common import (
    Placement,
    ThroughTransformers,
    from_pretrained,
    own_tensors,
)


class Nf4(ThroughTransformers):
    """NormalFloat 4-bit with double quantization of its scales (QLoRA, arXiv:2305.14314)."""

    prepares_for_kbit = True

    def load(self, path: Path, linears: Sequence[str], placement: Placement) -> PreTrainedModel:
        """Load `path` in 4 bits; transformers itself leaves the output head alone."""
        return from_pretrained(path, placement, **self.settings(placement))

    def settings(self, placement: Placement) -> dict[str, Any]:
        """Return the configuration and the device to quantize on."""
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=placement.compute,
        )
        return {"quantization_config": config, "device_map": placement.device}

    def dequantized(self, layer: nn.Module) -> torch.Tensor:
        """Look up each 4-bit value, and multiply by its group's scale."""
        assert isinstance(layer, Linear4bit)
        weight: torch.Tensor = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        return weight

    def stored(self, layer: nn.Module) -> Iterator[torch.Tensor]:
        """Yield packed weights, scales, their own scales, and the code tables."""
        if not isinstance(layer, Linear4bit):
            yield from own_tensors(layer)
            return
        weight = layer.weight
        yield weight.data
        state: QuantState | None = getattr(weight, "quant_state", None)
        while state is not None:
            yield from (t for t in (state.absmax, state.code, state.offset) if t is not None)
            state = state.state2


class Int8(ThroughTransformers):
    """LLM.int8(): one scale per output row (arXiv:2208.07339)."""

    prepares_for_kbit = True

    def load(self, path: Path, linears: Sequence[str], placement: Placement) -> PreTrainedModel:
        """Load `path` in 8 bits."""
        return from_pretrained(path, placement, **self.settings(placement))

    def settings(self, placement: Placement) -> dict[str, Any]:
        """Return the configuration and the device to quantize on."""
        # On CPU each product warns that inputs are cast to float16: hundreds of equal lines.
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        config = BitsAndBytesConfig(load_in_8bit=True)
        return {"quantization_config": config, "device_map": placement.device}

    def dequantized(self, layer: nn.Module) -> torch.Tensor:
        """Multiply each row by its scale; products round activations as well, and this doesn't."""
        assert isinstance(layer, Linear8bitLt)
        return int8_vectorwise_dequant(layer.weight.data, _scales_of_rows(layer))

    def stored(self, layer: nn.Module) -> Iterator[torch.Tensor]:
        """Yield weights and row scales; the first forward pass moves them into `state`."""
        if not isinstance(layer, Linear8bitLt):
            yield from own_tensors(layer)
            return
        yield layer.weight.data
        yield _scales_of_rows(layer)


def _scales_of_rows(layer: Linear8bitLt) -> torch.Tensor:
    scales: torch.Tensor | None = layer.weight.SCB
    kept: torch.Tensor = layer.state.SCB if scales is None else scales
    return kept
