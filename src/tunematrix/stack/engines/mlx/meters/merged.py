"""How much of an adapter is in the layers that it was fused into, by its formula.

LoRA: W + s B A (arXiv 2106.09685). DoRA: the same sum, each row multiplied by m over its norm
(arXiv 2402.09353).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx import nn

from tunematrix.evidence.events import AdapterShare
from tunematrix.stack import adapters
from tunematrix.stack.engines.common import Base
from tunematrix.stack.engines.mlx.meters.weights import stored
from tunematrix.stack.yardsticks.shares import Stored, Weights, share


def shares(
    model: nn.Module, fresh: nn.Module, base: Base, adapter: Path, how: Stored
) -> tuple[AdapterShare, ...]:
    """Measure it in each layer of a fused model, beside a base that is stored as it was."""
    config = json.loads((adapter / adapters.CONFIG).read_text("utf-8"))
    scale = float(config["lora_parameters"]["scale"])
    tensors = mx.load(str(adapter / adapters.MLX_TENSORS))
    modules = dict(model.named_modules()), dict(fresh.named_modules())
    return tuple(
        found
        for name, weights in _weights(*modules, base, tensors, scale)
        for found in share(name, *weights, how)
    )


def _weights(
    fused: dict[str, nn.Module],
    fresh: dict[str, nn.Module],
    base: Base,
    tensors: dict[str, mx.array],
    scale: float,
) -> Iterator[tuple[str, tuple[Weights, Weights, Weights]]]:
    """Yield of each layer the weight that is stored, the base's, and what is due."""
    for name in base.linears:
        first, second = (tensors[f"{name}.{kind}"].astype(mx.float32) for kind in adapters.FACTORS)
        plain = stored(fresh[name])
        due = plain + scale * (first @ second).T
        if (magnitude := tensors.get(f"{name}.m")) is not None:
            due = due * (magnitude / mx.linalg.norm(due, axis=1))[:, None]
        yield name, (np.array(stored(fused[name])), np.array(plain), np.array(due))
