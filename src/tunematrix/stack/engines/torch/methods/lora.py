"""LoRA and DoRA through PEFT, with the conventions that its users rely on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from torch import nn
from transformers import PreTrainedModel

from tunematrix.configuration.adapters import idle_patterns
from tunematrix.stack.engines.common import Base
from tunematrix.stack.engines.torch.meters import embedding
from tunematrix.stack.engines.torch.methods import several

PREFIX = "base_model.model."
WHOLE = "modules_to_save"
"""What PEFT calls a module that is trained whole."""
BIAS = ".bias"
Bias: TypeAlias = Literal["none", "lora_only", "all"]
HEAD = "lm_head"
"""Name of the output head, in every model of transformers that is trained here."""


class TorchLora:
    """Low-rank adapters on every linear layer of the decoder (arXiv:2106.09685).

    Args:
        rank, alpha, dropout: of the adapters.
        use_rslora: scale by alpha / sqrt(rank) instead of alpha / rank (arXiv:2312.03732).
        use_dora: train a magnitude as well (arXiv:2402.09353).
        rank_pattern, alpha_pattern: those of some layers, by the end of their names or a regular
            expression for all of it.
        modules_to_save: modules trained in full beside the adapters.
        head: adapt the output head as well; SFTTrainer refuses to, so the plain loop trains it.
        embeddings: adapt the embeddings of tokens as well.
        adapter: name of what is trained.
        beside: a second adapter on every layer, drawn at random: none, resting (not active),
            frozen (active, but not trained) or trained with it.
        bias: which biases of the base are trained as well: none, lora_only (those of adapted
            layers) or all.
    """

    def __init__(
        self,
        rank: int,
        alpha: float,
        dropout: float,
        use_rslora: bool,
        use_dora: bool,
        modules_to_save: list[str],
        rank_pattern: Mapping[str, int] | None = None,
        alpha_pattern: Mapping[str, float] | None = None,
        head: bool = False,
        embeddings: bool = False,
        adapter: str = "default",
        beside: several.Beside = "none",
        bias: Bias = "none",
    ) -> None:
        # DoRA normalises the product by a norm of its own, so no one factor describes it.
        self.has_scale = not use_dora
        self.use_dora = use_dora
        self.modules_to_save = list(modules_to_save)
        self.head = head
        self.embeddings = _checked(embeddings, dora=use_dora)
        self.adapter = adapter
        self.beside = several.checked(beside, dora=use_dora)
        self.loop: Literal["sft", "plain"] = "plain" if head else "sft"
        self.settings = {
            "r": rank,
            "lora_alpha": alpha,
            "lora_dropout": dropout,
            "use_rslora": use_rslora,
            "use_dora": use_dora,
            # Hydra's mappings can't be saved as JSON.
            "rank_pattern": dict(rank_pattern or {}),
            "alpha_pattern": dict(alpha_pattern or {}),
            "modules_to_save": self.modules_to_save or None,
            "bias": bias,
        }
        self.bias = bias

    def attach(self, model: PreTrainedModel, base: Base, kbit: bool, checkpoint: bool) -> nn.Module:
        """Attach by explicit names: "all-linear" matches nothing on an hqq model.

        Raises:
            ValueError: biases are to train that aren't in float32; or a pattern is no layer's.
        """
        names = (*self._adapted(base), *([base.embedding] if self.embeddings else []))
        if idle := idle_patterns(self.settings, names):
            message = f"{', '.join(idle)}: no layer that is adapted is called so, nor ends so"
            raise ValueError(message)
        if self.bias != "none" and any(p.dtype != torch.float32 for p in model.parameters()):
            message = (
                f"bias={self.bias} can't be had: over a base that isn't in float32, its biases "
                "would train in the base's own dtype, which small updates don't change; take "
                "precision=fp32 and quantizer=none"
            )
            raise ValueError(message)
        if kbit:
            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=checkpoint)
        leaves = sorted({name.rpartition(".")[2] for name in names})
        config = LoraConfig(target_modules=leaves, task_type="CAUSAL_LM", **self.settings)
        attached = get_peft_model(model, config, adapter_name=self.adapter)
        several.add(attached, config, self.adapter, self.beside)
        return attached

    def must_train(self, base: Base) -> tuple[str, ...]:
        """Name A, B (and a magnitude) of each linear layer, and modules trained whole."""
        kinds = ["lora_A", "lora_B", *(["lora_magnitude_vector"] if self.use_dora else [])]
        trained = (self.adapter, *([several.NAME] if self.beside == "trained" else []))
        parts = [*product(self._adapted(base), kinds), *product(self.modules_to_save, [WHOLE])]
        added = (
            f"{PREFIX}{module}.{kind}.{name}.weight" for module, kind in parts for name in trained
        )
        return (*added, *self._embedding(base, trained), *self._biases(base))

    def _embedding(self, base: Base, trained: Iterable[str]) -> Iterator[str]:
        """Yield A and B of the embeddings, which PEFT keeps without a layer of their own."""
        for kind, name in product(embedding.FACTORS if self.embeddings else (), trained):
            yield f"{PREFIX}{base.embedding}.{kind}.{name}"

    def _biases(self, base: Base) -> Iterator[str]:
        """Yield the biases of the base that are trained, as they are named beneath adapters."""
        adapted = {
            f"{module}{BIAS}": f"{module}.base_layer{BIAS}" for module in self._adapted(base)
        }
        for name in base.parameters if self.bias != "none" else ():
            if name in adapted or (self.bias == "all" and name.endswith(BIAS)):
                yield f"{PREFIX}{adapted.get(name, name)}"

    def _adapted(self, base: Base) -> tuple[str, ...]:
        return (*base.linears, HEAD) if self.head else base.linears

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write the adapter."""
        assert isinstance(model, PeftModel)
        model.save_pretrained(str(folder))

    def folders(self, folder: Path) -> dict[str, Path]:
        """Return where `save` leaves each active adapter, the first as the model's own."""
        names = (self.adapter, *([several.NAME] if self.beside in several.ACTIVE else []))
        return {name: folder if name == "default" else folder / name for name in names}

    def load(self, model: PreTrainedModel, base: Base, folder: Path) -> nn.Module:
        """Load what is active onto a fresh base."""
        (name, first), *others = self.folders(folder).items()
        loaded = PeftModel.from_pretrained(model, str(first), adapter_name=name)
        for other, place in others:
            loaded.load_adapter(str(place), other)
            loaded.base_model.set_adapter([name, other])
        return loaded


def _checked(embeddings: bool, *, dora: bool) -> bool:
    """Return the setting.

    Raises:
        ValueError: nothing says what DoRA makes of embeddings.
    """
    if embeddings and dora:
        message = (
            "method.implementation.embeddings=true can't be had with DoRA: its paper speaks of "
            "layers that multiply; take lora"
        )
        raise ValueError(message)
    return embeddings
