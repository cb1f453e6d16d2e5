"""What mlx-lm can train: LoRA and DoRA on all linear layers, or every parameter.

A method names the parameters that it must train from the base's own layers, so that an adapter
which forgot one can't vouch for itself; what it trained is saved as `mlx_lm.lora` saves it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten
from mlx_lm.tuner.dora import DoRALinear
from mlx_lm.tuner.utils import linear_to_lora_layers
from mlx_lm.utils import save_config

from tunematrix.stack.engines.common import Base
from tunematrix.stack.yardsticks import starts


class MlxMethod(Protocol):
    """The interface that `configs/method/*.yaml` name in `implementation._target_`."""

    has_scale: bool
    """Whether a fixed factor scales its adapters' products, so that it can be measured."""

    def attach(self, model: nn.Module) -> None:
        """Make `model` trainable in place."""

    def must_train(self, base: Base) -> tuple[str, ...]:
        """Name the parameters of the attached model that must be trained."""

    def adapter_config(self, model: nn.Module) -> dict[str, Any]:
        """Return what `mlx_lm.tuner.utils.load_adapters` reads beside the weights."""


class MlxLora:
    """Low-rank adapters on every linear layer of the decoder (arXiv:2106.09685).

    Args:
        rank, alpha, dropout: of the adapters.
        use_rslora: scale by alpha / sqrt(rank) instead of alpha / rank (arXiv:2312.03732).
        use_dora: train a magnitude as well (arXiv:2402.09353).
        modules_to_save: must be empty, as mlx-lm trains nothing beside its adapters.
        rank_pattern, alpha_pattern: must be empty, as mlx-lm's adapters are all alike.
        head, embeddings: must be false, as mlx-lm adapts the decoder's blocks alone.
        adapter, beside: must be default and none, as mlx-lm's layers have one adapter.
        bias: must be none, as mlx-lm trains nothing beside its adapters.
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
        beside: str = "none",
        bias: str = "none",
    ) -> None:
        # DoRA normalises the product by a norm of its own, so no one factor describes it.
        self.has_scale = not use_dora
        self.use_dora = use_dora
        self.modules_to_save = list(modules_to_save)
        self.head = head
        self.embeddings = embeddings
        self.only = (adapter, beside) == ("default", "none")
        self.bias = bias
        self.by_layer = bool(rank_pattern or alpha_pattern)
        scale = alpha / (rank**0.5 if use_rslora else rank)
        self.settings = {"rank": rank, "scale": scale, "dropout": dropout}

    def attach(self, model: nn.Module) -> None:
        """Freeze everything, then let mlx-lm replace each linear layer of each block.

        Raises:
            ValueError: modules are to be trained whole, the head to be adapted, or ranks or
                alphas to differ by layer, or biases to train, or a layer to have several adapters.
        """
        if not self.only:
            message = "adapter and beside can't be had: mlx-lm's layers have one adapter each"
            raise ValueError(message)
        if self.bias != "none":
            message = f"bias={self.bias} can't be had: mlx-lm trains nothing beside its adapters"
            raise ValueError(message)
        if self.by_layer:
            message = "rank_pattern and alpha_pattern can't be had: mlx-lm's adapters are all alike"
            raise ValueError(message)
        for name, asked in (("head", self.head), ("embeddings", self.embeddings)):
            if asked:
                message = (
                    f"{name}=true can't be had: mlx-lm adapts layers of the decoder's blocks alone"
                )
                raise ValueError(message)
        if self.modules_to_save:
            message = (
                f"modules_to_save={self.modules_to_save} can't be trained: mlx-lm saves and loads "
                "adapters alone; leave it empty on this backend"
            )
            raise ValueError(message)
        model.freeze()
        linear_to_lora_layers(model, len(model.layers), self.settings, use_dora=self.use_dora)

    def must_train(self, base: Base) -> tuple[str, ...]:
        """Name A, B (and a magnitude) of each linear layer."""
        kinds = ("lora_a", "lora_b", "m") if self.use_dora else ("lora_a", "lora_b")
        return tuple(f"{name}.{kind}" for name in base.linears for kind in kinds)

    def adapter_config(self, model: nn.Module) -> dict[str, Any]:
        """Describe the adapters."""
        return {
            "fine_tune_type": "dora" if self.use_dora else "lora",
            "num_layers": len(model.layers),
            "lora_parameters": self.settings,
        }


class MlxFull:
    """Trains the whole model, where `mlx_lm.lora` itself leaves embeddings and norm frozen."""

    has_scale = False

    def attach(self, model: nn.Module) -> None:
        """Ask for a gradient everywhere; quantized layers stay frozen of themselves."""
        model.unfreeze()

    def must_train(self, base: Base) -> tuple[str, ...]:
        """Name all of them."""
        return base.parameters

    def adapter_config(self, model: nn.Module) -> dict[str, Any]:
        """Say that the weights are the model's own."""
        return {"fine_tune_type": "full", "num_layers": len(model.layers), "lora_parameters": None}


def redraw(model: nn.Module, seed: int, method: str) -> None:
    """Overwrite every A and B of an attached model, and make DoRA's magnitudes match.

    Raises:
        ValueError: the model has no adapter.
    """
    layers = [(name, m) for name, m in model.named_modules() if hasattr(m, "lora_a")]
    if not layers:
        raise starts.refused(method)
    for name, layer in layers:
        # mlx-lm keeps A as (in, rank) and B as (rank, out).
        first, second = layer.lora_a.T.shape, layer.lora_b.T.shape
        layer.lora_a = mx.array(starts.draw(seed, name, starts.FIRST, first).T)
        layer.lora_b = mx.array(starts.draw(seed, name, starts.SECOND, second).T)
        if isinstance(layer, DoRALinear):
            weight = layer._dequantized_weight().astype(mx.float32)
            product = (layer.scale * layer.lora_b.T) @ layer.lora_a.T
            layer.m = mx.linalg.norm(weight + product, axis=1)


def save(model: nn.Module, method: MlxMethod, folder: Path, base: Path | None = None) -> None:
    """Write the trained parameters and their description, as `mlx_lm.lora` leaves them.

    Args:
        base: folder of the model below, which is then named in the description.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trained = dict(tree_flatten(model.trainable_parameters()))
    mx.save_safetensors(str(folder / "adapters.safetensors"), trained)
    named = {} if base is None else {"model": str(base)}
    save_config({**method.adapter_config(model), **named}, folder / "adapter_config.json")


Full, Lora = MlxFull, MlxLora
"""Under the names that configurations give them, whatever the engine."""
