"""Where adapters start: a seed and a layer's name → its first A and B, the same for every library.

Libraries draw them in an order and with generators of their own; drawn from names, arms of a
relation start alike, and since B isn't zero, both get gradients from the first step.
"""

from __future__ import annotations

import math
from zlib import crc32

import numpy as np

from tunematrix.configuration.settings import TrainSettings
from tunematrix.stack.engines.common import Floats

SPREAD = 0.02
"""Of B's values."""
FIRST, SECOND = "lora_A", "lora_B"


def is_drawn(train: TrainSettings) -> bool:
    """Say whether the `train` section asks for adapters drawn here."""
    return train.adapter_start == "drawn"


def draw(seed: int, layer: str, kind: str, shape: tuple[int, ...]) -> Floats:
    """Draw A, (rank, in), uniform within 1/sqrt(in), or B, (out, rank), normal."""
    random = np.random.default_rng([seed, crc32(f"{layer}.{kind}".encode())])
    if kind == FIRST:
        bound = 1 / math.sqrt(shape[1])
        return random.uniform(-bound, bound, shape).astype(np.float32)
    return (SPREAD * random.standard_normal(shape)).astype(np.float32)


def refused(method: str) -> ValueError:
    """Return what to raise where there is nothing to draw."""
    return ValueError(f"train.adapter_start=drawn can't be had: method {method} has no lora_A")
