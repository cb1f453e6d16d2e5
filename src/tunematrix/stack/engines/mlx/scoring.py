"""Logits, losses and gradients on fixed examples, by the definition of cross-entropy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from mlx import nn
from mlx.utils import tree_flatten
from numpy.typing import NDArray

from tunematrix.stack.engines.common import Floats
from tunematrix.stack.engines.examples import Example

BATCH = 16

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class MlxBatch:
    """Examples padded on the right, where causal attention sees nothing of it.

    Attributes:
        ids: (rows, columns); real: whether a position isn't padding.
        counted: (rows, columns - 1), whether the loss counts the prediction of the next token.
    """

    ids: mx.array
    real: mx.array
    counted: mx.array


def pad(examples: Sequence[Example]) -> MlxBatch:
    """Put examples into rows of one length."""
    columns = max(len(example.ids) for example in examples)
    ids = np.zeros((len(examples), columns), np.int32)
    real, counted = np.zeros_like(ids, dtype=bool), np.zeros_like(ids, dtype=bool)
    for row, example in enumerate(examples):
        length = len(example.ids)
        ids[row, :length] = example.ids
        real[row, :length] = True
        counted[row, :length] = example.counted
    return MlxBatch(mx.array(ids), mx.array(real), mx.array(counted[:, 1:]))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Turn dropout off, and afterwards back to what it was."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def logits(model: nn.Module, examples: Sequence[Example]) -> Floats:
    """Return float32 logits at real positions, (tokens, vocabulary), in evaluation mode."""
    batch = pad(examples)
    with evaluating(model):
        found = np.array(model(batch.ids).astype(mx.float32))
    real: Floats = found[np.array(batch.real)]
    return real


def loss(model: nn.Module, examples: Sequence[Example]) -> tuple[float, int]:
    """Return (mean nats per counted token, counted tokens) in evaluation mode."""
    total, tokens = 0.0, 0
    # By length, since MLX takes its time over padding on a CPU.
    ordered = sorted(examples, key=lambda example: len(example.ids))
    with evaluating(model):
        for start in range(0, len(ordered), BATCH):
            batch = pad(ordered[start : start + BATCH])
            total += nats(model, batch.ids, batch.ids[:, 1:], batch.counted).item()
            tokens += int(batch.counted.sum().item())
    return total / tokens, tokens


def nats(model: nn.Module, ids: mx.array, targets: mx.array, counted: mx.array) -> mx.array:
    """Return the cross-entropy of (rows, columns - 1) targets, summed where they count."""
    predictions = model(ids[:, :-1]).astype(mx.float32)
    chosen = mx.take_along_axis(predictions, targets[..., None], axis=-1).squeeze(-1)
    return ((mx.logsumexp(predictions, axis=-1) - chosen) * counted).sum()


def gradients(model: nn.Module, examples: Sequence[Example]) -> dict[str, Floats]:
    """Return the gradient of the mean nats for each trainable parameter."""
    _, found = _mean_nats(model, examples)
    return {name: np.array(gradient.astype(mx.float32)) for name, gradient in found.items()}


def descend(
    model: nn.Module, batches: Iterable[Sequence[Example]], rate: float
) -> tuple[float, ...]:
    """Train every parameter by plain SGD, a step a batch; return each batch's loss before."""
    losses = []
    for examples in batches:
        value, found = _mean_nats(model, examples)
        named = dict(tree_flatten(model.parameters()))
        model.load_weights([(name, named[name] - rate * g) for name, g in found.items()])
        mx.eval(model.parameters())
        losses.append(value)
    return tuple(losses)


def _mean_nats(model: nn.Module, examples: Sequence[Example]) -> tuple[float, dict[str, mx.array]]:
    batch = pad(examples)
    tokens, targets = batch.counted.sum(), batch.ids[:, 1:]
    with evaluating(model):
        return value_and_gradients(
            model, lambda: nats(model, batch.ids, targets, batch.counted) / tokens
        )


def value_and_gradients(
    model: nn.Module, function: Callable[[], mx.array]
) -> tuple[float, dict[str, mx.array]]:
    """Return a scalar function of the model and its gradient for each trainable parameter."""
    value, gradients = nn.value_and_grad(model, function)()
    mx.eval(value, gradients)
    return value.item(), dict(tree_flatten(gradients))


def doubles(array: mx.array) -> Doubles:
    """Copy an array of any dtype of MLX's floats."""
    return np.array(array.astype(mx.float32)).astype(np.float64)
