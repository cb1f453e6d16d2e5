"""No quantizer: weights stay as the checkpoint has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tunematrix.stack.quantizers.common import (
    Placement,
    ThroughTransformers,
    from_pretrained,
    own_tensors,
)


class TorchUnquantized(ThroughTransformers):
    """Loads a checkpoint as it is."""

    prepares_for_kbit = False

    def load(self, path: Path, linears: Sequence[str], placement: Placement) -> PreTrainedModel:
        """Load `path`; `linears` stay plain linear layers."""
        return from_pretrained(path, placement).to(placement.device)

    def settings(self, placement: Placement) -> dict[str, Any]:
        """Return nothing that transformers would have to be told."""
        return {}

    def dequantized(self, layer: nn.Module) -> torch.Tensor:
        """Return the weight itself; GPT-2's layers keep it the other way round."""
        weight = layer.get_parameter("weight").detach()
        return weight.T if isinstance(layer, Conv1D) else weight

    def stored(self, layer: nn.Module) -> Iterator[torch.Tensor]:
        """Yield the weight (and bias)."""
        yield from own_tensors(layer)


Unquantized = TorchUnquantized
"""Under the name that configurations give it, whatever the engine."""
