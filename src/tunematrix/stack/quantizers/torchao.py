"""torchao through its own `quantize_`: SFTTrainer refuses int4 loaded by TorchAoConfig."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora.torchao import TorchaoLoraLinear
from torch import nn
from torchao import quantization
from transformers import PreTrainedModel, TorchAoConfig

from tunematrix.stack.quantizers.common import InMemory, Placement, from_pretrained, own_tensors


class TorchAo(InMemory):
    """Weight-only int8 by row, or int4 values in groups.

    Attributes:
        bits: 4 or 8.
        group_size: weights that share a scale (int4 only).
    """

    prepares_for_kbit = False
    in_place = True
    unexportable = ""

    def __init__(self, bits: int, group_size: int = 32) -> None:
        self.bits = bits
        self.group_size = group_size

    def load(self, path: Path, linears: Sequence[str], placement: Placement) -> PreTrainedModel:
        """Load `path`, then quantize the layers named in `linears` in place."""
        model = from_pretrained(path, placement).to(placement.device)
        self.quantize(model, linears)
        return model

    def quantize(self, model: nn.Module, linears: Sequence[str]) -> None:
        """Replace the weights of the layers named in `linears`."""
        wanted = frozenset(linears)
        quantization.quantize_(model, self._config(), filter_fn=lambda _, name: name in wanted)

    def dequantized(self, layer: nn.Module) -> torch.Tensor:
        """Let torchao's weight tensor dequantize itself."""
        weight: torch.Tensor = layer.get_parameter("weight").dequantize()
        return weight

    def export_settings(self, placement: Placement) -> dict[str, Any]:
        """Return torchao's own configuration, in transformers' words, and the device."""
        config = TorchAoConfig(self._config())
        return {"quantization_config": config, "device_map": placement.device}

    def ready_to_merge(self, attached: PeftModel) -> None:
        """Say how layers are quantized again, which PEFT reads off transformers' loader alone."""
        for layer in attached.modules():
            if isinstance(layer, TorchaoLoraLinear):
                layer.get_apply_tensor_subclass = self._config

    def _config(self) -> Any:
        if self.bits == 8:
            return quantization.Int8WeightOnlyConfig()
        groups = quantization.PerGroup(self.group_size)
        return quantization.IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=groups)

    def stored(self, layer: nn.Module) -> Iterator[torch.Tensor]:
        """Yield what is inside torchao's weight tensor."""
        yield from own_tensors(layer)
