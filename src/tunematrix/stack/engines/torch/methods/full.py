"""Full fine-tuning: every parameter of the base."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from tunematrix.stack.engines.common import Base
from tunematrix.stack.releases import dtype_keyword


class TorchFull:
    """Trains the whole model."""

    loop: Literal["sft"] = "sft"
    has_scale = False

    def attach(self, model: PreTrainedModel, base: Base, kbit: bool, checkpoint: bool) -> nn.Module:
        """Ask for a gradient everywhere; on quantized weights the libraries themselves refuse."""
        return model.requires_grad_(True)

    def must_train(self, base: Base) -> tuple[str, ...]:
        """Name all of them."""
        return base.parameters

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write a checkpoint."""
        assert isinstance(model, PreTrainedModel)
        model.save_pretrained(folder)

    def load(self, model: PreTrainedModel, base: Base, folder: Path) -> nn.Module:
        """Load the checkpoint; the fresh base lends no more than its dtype and device."""
        loaded: nn.Module = AutoModelForCausalLM.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            **{dtype_keyword(): model.dtype},
        )
        return loaded.to(model.device)
