"""Whole parameters for relations to compare, named and turned as PyTorch's engine has them.

mlx-lm's trainer keeps its gradients to itself, so there are none here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import mlx.core as mx
import numpy as np
from mlx import nn
from mlx.utils import tree_flatten

from tunematrix.stack.engines.common import Floats

KINDS: Mapping[str, str] = {"lora_a": "lora_A", "lora_b": "lora_B", "m": "lora_magnitude_vector"}
TURNED = ("lora_a", "lora_b")
"""mlx-lm keeps these as (in, rank) and (rank, out)."""


def trained(model: nn.Module) -> Iterator[tuple[str, Floats]]:
    """Yield a float32 copy of each parameter that trains, by the name that engines share."""
    for name, parameter in tree_flatten(model.trainable_parameters()):
        layer, _, kind = name.rpartition(".")
        array = np.array(parameter.astype(mx.float32))
        if kind in TURNED:
            array = np.ascontiguousarray(array.T)
        yield f"{layer}.{KINDS.get(kind, kind)}", array
