"""LoRA and DoRA through PEFT, with the conventions that its users rely on."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from torch import nn
from transformers import PreTrainedModel

from tunematrix.stack.engines.common import Base

PREFIX = "base_model.model."
HEAD = "lm_head"
"""Name of the output head, in every model of transformers that is trained here."""


class TorchLora:
    """Low-rank adapters on every linear layer of the decoder (arXiv:2106.09685).

    Args:
        rank, alpha, dropout: of the adapters.
        use_rslora: scale by alpha / sqrt(rank) instead of alpha / rank (arXiv:2312.03732).
        use_dora: train a magnitude as well (arXiv:2402.09353).
        modules_to_save: modules trained in full beside the adapters.
        head: adapt the output head as well; SFTTrainer refuses to, so the plain loop trains it.
    """

    def __init__(
        self,
        rank: int,
        alpha: float,
        dropout: float,
        use_rslora: bool,
        use_dora: bool,
        modules_to_save: list[str],
        head: bool = False,
    ) -> None:
        # DoRA normalises the product by a norm of its own, so no one factor describes it.
        self.has_scale = not use_dora
        self.use_dora = use_dora
        self.modules_to_save = list(modules_to_save)
        self.head = head
        self.loop: Literal["sft", "plain"] = "plain" if head else "sft"
        self.settings = {
            "r": rank,
            "lora_alpha": alpha,
            "lora_dropout": dropout,
            "use_rslora": use_rslora,
            "use_dora": use_dora,
            "modules_to_save": self.modules_to_save or None,
        }

    def attach(self, model: PreTrainedModel, base: Base, kbit: bool, checkpoint: bool) -> nn.Module:
        """Attach by explicit names: "all-linear" matches nothing on an hqq model."""
        if kbit:
            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=checkpoint)
        leaves = sorted({name.rpartition(".")[2] for name in self._adapted(base)})
        config = LoraConfig(target_modules=leaves, task_type="CAUSAL_LM", **self.settings)
        adapted: nn.Module = get_peft_model(model, config)
        return adapted

    def must_train(self, base: Base) -> tuple[str, ...]:
        """Name A, B (and a magnitude) of each linear layer, and modules trained whole."""
        kinds = ["lora_A.default.weight", "lora_B.default.weight"]
        if self.use_dora:
            kinds.append("lora_magnitude_vector.default.weight")
        adapters = [f"{PREFIX}{name}.{kind}" for name in self._adapted(base) for kind in kinds]
        whole = [
            f"{PREFIX}{module}.modules_to_save.default.weight" for module in self.modules_to_save
        ]
        return (*adapters, *whole)

    def _adapted(self, base: Base) -> tuple[str, ...]:
        return (*base.linears, HEAD) if self.head else base.linears

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write the adapter."""
        assert isinstance(model, PeftModel)
        model.save_pretrained(str(folder))

    def load(self, model: PreTrainedModel, base: Base, folder: Path) -> nn.Module:
        """Load the adapter onto a fresh base."""
        loaded: nn.Module = PeftModel.from_pretrained(model, str(folder))
        return loaded
