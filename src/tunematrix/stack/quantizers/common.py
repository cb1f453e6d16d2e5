"""What every quantizer is, and how the tensors behind a weight are found.

A quantizer turns a checkpoint folder into a model whose decoder's linear layers are stored
its way. It answers for `load`, and for `quantize` where a library works in place; for `stored`,
the tensors that one of its layers really keeps, so that bytes can be counted and bits compared;
for `dequantized`, the weight that they stand for; and for how an adapter is merged into it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from peft import PeftModel
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from tunematrix.stack.releases import dtype_keyword


@dataclass(frozen=True)
class Placement:
    """Where and in which dtypes a model is loaded.

    Attributes:
        device: torch device string.
        weights: dtype of everything that stays unquantized.
        compute: dtype in which dequantized products are taken.
        cache: folder for code that is compiled once and kept between runs.
    """

    device: str
    weights: torch.dtype
    compute: torch.dtype
    cache: Path


class TorchQuantizer(Protocol):
    """The interface that `configs/quantizer/*.yaml` name in `implementation._target_`."""

    prepares_for_kbit: bool
    """Whether PEFT's `prepare_model_for_kbit_training` belongs before an adapter is attached."""

    in_place: bool
    """Whether it also quantizes layers of a model that was loaded, and adapted, without it."""

    def load(self, path: Path, linears: Sequence[str], placement: Placement) -> PreTrainedModel:
        """Load `path` with the layers named in `linears` quantized."""

    def quantize(self, model: nn.Module, linears: Sequence[str]) -> None:
        """Quantize the layers of `model` that are named in `linears`, in place."""

    def stored(self, layer: nn.Module) -> Iterator[torch.Tensor]:
        """Yield every tensor that `layer` keeps for its weight, quantization state included."""

    def dequantized(self, layer: nn.Module) -> torch.Tensor:
        """Return the weight that a quantized linear layer stands for, (out, in).

        Of a freshly loaded one: some libraries repack at the first forward pass.
        """

    def settings(self, placement: Placement) -> dict[str, Any] | None:
        """Return what `from_pretrained` takes to store its way; None where it knows no way."""

    unexportable: str
    """Why transformers alone can't save a model stored its way and load it; "" where it can."""

    def export_settings(self, placement: Placement) -> dict[str, Any]:
        """Return what `from_pretrained` takes so that what it loads can be saved."""

    def ready_to_merge(self, attached: PeftModel) -> None:
        """Tell an adapted model's layers what they must know to be merged."""

    def merge(self, attached: PeftModel, folder: Path, placement: Placement) -> nn.Module:
        """Merge an adapter in; save the result into `folder` and load it, where that can be had."""


class InMemory:
    """How an adapter is merged where what comes of it can't be saved and loaded."""

    in_place = False
    unexportable = "transformers has no loader for what it would save"

    def quantize(self, model: nn.Module, linears: Sequence[str]) -> None:
        """Refuse: this library quantizes as it loads."""
        raise NotImplementedError

    def settings(self, placement: Placement) -> dict[str, Any] | None:
        """Return none: transformers doesn't load it."""
        return None

    def export_settings(self, placement: Placement) -> dict[str, Any]:
        """Return what transformers takes to load it, which for most is enough to save it."""
        return self.settings(placement) or {}

    def ready_to_merge(self, attached: PeftModel) -> None:
        """Leave everything as it is."""

    def merge(self, attached: PeftModel, folder: Path, placement: Placement) -> nn.Module:
        """Merge an adapter into the model beneath it."""
        self.ready_to_merge(attached)
        merged: nn.Module = attached.merge_and_unload(safe_merge=True)
        return merged


class ThroughTransformers(InMemory):
    """How an adapter is merged where transformers saves and loads what comes of it."""

    unexportable = ""

    def merge(self, attached: PeftModel, folder: Path, placement: Placement) -> nn.Module:
        """Merge an adapter in, save a checkpoint, and load that."""
        attached.merge_and_unload(safe_merge=True).save_pretrained(folder)
        # Loaded where it is to be: what is quantized can't be moved, in older releases.
        return from_pretrained(folder, placement, device_map=placement.device)


def from_pretrained(path: Path, placement: Placement, **settings: Any) -> PreTrainedModel:
    """Load a causal language model from a local folder: safetensors only, no remote code."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        path,
        **{dtype_keyword(): placement.weights},
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
        **settings,
    )
    return model


def from_saved(path: Path, device: str) -> PreTrainedModel:
    """Load a model as it was saved, quantized or not: safetensors only, no remote code."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        path,
        **{dtype_keyword(): "auto"},
        device_map=device,
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
    )
    return model


def plain_tensors(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield the plain tensors inside `tensor`, looking through tensor subclasses."""
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is None or type(tensor) in (torch.Tensor, nn.Parameter):
        yield tensor.data
        return
    for name in flatten()[0]:
        yield from plain_tensors(getattr(tensor, name))


def own_tensors(layer: nn.Module) -> Iterator[torch.Tensor]:
    """Yield the plain tensors of a layer's own parameters and buffers."""
    for tensor in (*layer.parameters(recurse=False), *layer.buffers(recurse=False)):
        yield from plain_tensors(tensor)
