"""A reference LoRA in plain PyTorch: something independent for PEFT and Trainer to agree with."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from tunematrix.stack.engines.common import Base

FILE = "custom_lora.safetensors"


class LoraLayer(nn.Module):
    """y = base(x) + scale * B A x, with A and B in float32 whatever the base is stored as.

    Attributes:
        lora_A: (rank, in), uniform as `nn.Linear` starts; lora_B: (out, rank), zero.
    """

    def __init__(self, base: nn.Module, shape: tuple[int, int], rank: int, scale: float) -> None:
        super().__init__()
        out_features, in_features = shape
        self.base_layer = base
        self.scale = scale
        self.lora_A = nn.Parameter(torch.empty(rank, in_features))
        self.lora_B = nn.Parameter(torch.zeros(out_features, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., in) to (..., out) in the base's dtype."""
        base: torch.Tensor = self.base_layer(x)
        product = x.to(self.lora_A.dtype) @ self.lora_A.T @ self.lora_B.T
        return base + (self.scale * product).to(base.dtype)


class CustomLora:
    """Wraps every linear layer of the decoder.

    Args:
        rank, alpha: the product is scaled by alpha / rank.
    """

    loop: Literal["plain"] = "plain"
    has_scale = True

    def __init__(self, rank: int, alpha: float) -> None:
        self.rank = rank
        self.scale = alpha / rank

    def attach(self, model: PreTrainedModel, base: Base, kbit: bool, checkpoint: bool) -> nn.Module:
        """Freeze everything, then wrap each linear layer."""
        model.requires_grad_(False)
        for name, shape in zip(base.linears, base.shapes, strict=True):
            layer = LoraLayer(model.get_submodule(name), shape, self.rank, self.scale)
            model.set_submodule(name, layer.to(model.device))
        if checkpoint or kbit:
            # As PEFT prepares such models: without a gradient to pass on, bitsandbytes' kernels for
            # inference compute the first layer, and round otherwise.
            model.enable_input_require_grads()
        return model

    def must_train(self, base: Base) -> tuple[str, ...]:
        """Name A and B of each linear layer."""
        return tuple(f"{name}.{kind}" for name in base.linears for kind in ("lora_A", "lora_B"))

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write A and B of every layer into one safetensors file."""
        folder.mkdir(parents=True, exist_ok=True)
        trained = {n: p.detach().contiguous() for n, p in model.named_parameters() if "lora_" in n}
        save_file(trained, folder / FILE)

    def load(self, model: PreTrainedModel, base: Base, folder: Path) -> nn.Module:
        """Wrap a fresh base and fill in A and B."""
        attached = self.attach(model, base, kbit=False, checkpoint=False)
        loaded = attached.load_state_dict(load_file(folder / FILE), strict=False)
        if loaded.unexpected_keys:
            names = ", ".join(loaded.unexpected_keys)
            message = f"{folder / FILE} holds tensors that no layer takes: {names}"
            raise ValueError(message)
        return attached
