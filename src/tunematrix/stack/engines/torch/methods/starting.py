"""Adapters of PEFT's or of our own, set to what their names say."""

from __future__ import annotations

import torch
from peft.tuners.lora import LoraLayer
from torch import nn

from tunematrix.stack.yardsticks import starts
from tunematrix.stack.yardsticks.names import canonical


def redraw(model: nn.Module, seed: int, method: str) -> None:
    """Overwrite every A and B of an attached model, and make DoRA's magnitudes match.

    Raises:
        ValueError: the model has no adapter, or has one on its embeddings.
    """
    found = 0
    for name, parameter in model.named_parameters():
        layer, _, kind = canonical(name).rpartition(".")
        if kind.startswith("lora_embedding"):
            message = (
                "train.adapter_start=drawn can't be had with method.implementation.embeddings: "
                "PEFT would still draw theirs; set one of the two otherwise"
            )
            raise ValueError(message)
        if kind in (starts.FIRST, starts.SECOND):
            values = torch.from_numpy(starts.draw(seed, layer, kind, tuple(parameter.shape)))
            with torch.no_grad():
                parameter.copy_(values)
            found += 1
    if not found:
        raise starts.refused(method)
    for module in model.modules():
        if isinstance(module, LoraLayer):
            _match_magnitudes(module)


def _match_magnitudes(layer: LoraLayer) -> None:
    """Set DoRA's magnitudes as PEFT starts them, to the norms of what is adapted."""
    for adapter, magnitude in layer.lora_magnitude_vector.items():
        kept = magnitude.weight
        magnitude.update_layer(
            base_layer=layer.get_base_layer(),
            lora_A=layer.lora_A[adapter].weight,
            lora_B=layer.lora_B[adapter].weight,
            scaling=layer.scaling[adapter],
        )
        # PEFT has cast the one it had, if the base is in half precision.
        with torch.no_grad():
            kept.copy_(magnitude.weight)
        magnitude.weight = kept
