"""No quantizer: weights stay as the checkpoint has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from tunematrix.stack.quantizers.common import Placement, from_pretrained, own_tensors


class Unquantized:
    """Loads a checkpoint as it is."""

    prepares_for_kbit = False

    def load(self, path: Path, linears: Sequence[str], placement: Placement) -> PreTrainedModel:
        """Load `path`; `linears` stay plain linear layers."""
        return from_pretrained(path, placement).to(placement.device)

    def stored(self, layer: nn.Module) -> Iterator[torch.Tensor]:
        """Yield the weight (and bias)."""
        yield from own_tensors(layer)
