"""What is stored and what training changed: bytes, names, and digests of every tensor."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from mlx import nn
from mlx.utils import tree_flatten

from tunematrix.evidence.events import Changed, Held, Storage, StoredLayer, Trainable
from tunematrix.stack.engines.common import Base


@dataclass(frozen=True)
class MlxSnapshot:
    """Digests of a model's tensors, by name; those that train, and all others."""

    trained: Mapping[str, bytes]
    frozen: Mapping[str, bytes]


def storage(model: nn.Module, base: Base) -> Storage:
    """Count the bytes of each linear layer's weight, and of the whole model."""
    modules = dict(model.named_modules())
    layers = tuple(
        StoredLayer(name, shape, _bytes(modules[name]) - _bias_bytes(modules[name]))
        for name, shape in zip(base.linears, base.shapes, strict=True)
    )
    return Storage(layers=layers, total_bytes=_bytes(model))


def compute(model: nn.Module) -> None:
    """Make what a model's tensors will be, in memory that is theirs alone.

    MLX puts an array into any buffer left by others that is at most twice as large: what a model
    takes would depend on what ran before it.
    """
    mx.synchronize()
    mx.clear_cache()
    mx.eval(model.parameters())


def active_bytes() -> int:
    """Return the bytes of all arrays that MLX keeps."""
    gc.collect()
    mx.synchronize()
    return int(mx.get_active_memory())


def memory_beside(model: nn.Module, when: str, before: int) -> Held:
    """Count the bytes of all arrays but those of `model`, over those that were there `before`."""
    return Held(when, active_bytes() - _bytes(model) - before)


def trainable(model: nn.Module, expected: tuple[str, ...]) -> Trainable:
    """Compare what would get a gradient with what the method must train."""
    actual = tuple(name for name, _ in tree_flatten(model.trainable_parameters()))
    return Trainable(expected=expected, actual=actual)


def snapshot(model: nn.Module) -> MlxSnapshot:
    """Digest everything: a kept array would stay in memory beside the one that replaces it."""
    trained = {name for name, _ in tree_flatten(model.trainable_parameters())}
    digests = {name: _digest(tensor) for name, tensor in tree_flatten(model.parameters())}
    return MlxSnapshot(
        trained={name: digest for name, digest in digests.items() if name in trained},
        frozen={name: digest for name, digest in digests.items() if name not in trained},
    )


def compare(before: MlxSnapshot, model: nn.Module) -> Changed:
    """Say which tensors differ from `before`."""
    now = dict(tree_flatten(model.parameters()))
    digests = {name: _digest(tensor) for name, tensor in now.items()}
    still = tuple(n for n, digest in before.trained.items() if digests.get(n) == digest)
    return Changed(
        moved=tuple(name for name in before.trained if name not in still),
        still=still,
        zero=tuple(name for name in before.trained if not mx.any(now[name]).item()),
        altered=tuple(n for n, digest in before.frozen.items() if digests.get(n) != digest),
        frozen=len(before.frozen),
    )


def _bytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for _, tensor in tree_flatten(module.parameters()))


def _bias_bytes(layer: nn.Module) -> int:
    return int(layer.bias.nbytes) if "bias" in layer else 0


def _digest(tensor: mx.array) -> bytes:
    data = np.array(tensor.reshape(-1).view(mx.uint8)).tobytes()
    return hashlib.blake2b(data, digest_size=16).digest()
