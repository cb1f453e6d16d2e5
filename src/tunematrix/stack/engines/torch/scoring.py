"""Logits and losses of a model on fixed examples, by the definition of cross-entropy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunematrix.stack.engines.examples import IGNORED, Example
from tunematrix.stack.engines.torch.padding import TorchBatch, pad

BATCH = 64


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Turn dropout and the like off, and afterwards back on where they were on."""
    # What Module.train does, without all that setting a module's attribute goes through.
    training = [module for module in model.modules() if module.training]
    for module in training:
        vars(module)["training"] = False
    try:
        yield
    finally:
        for module in training:
            vars(module)["training"] = True


def logits(model: nn.Module, batch: TorchBatch, *, gradient: bool = False) -> torch.Tensor:
    """Return float32 logits at real positions, (tokens, vocabulary), in evaluation mode.

    `gradient` keeps autograd on, and lets embeddings ask for it: where a layer's input doesn't,
    bitsandbytes repacks 4-bit weights on some CPUs and rounds their scales, which would be
    mistaken for training.
    """
    asked = asking(model) if gradient else nullcontext()
    with evaluating(model), torch.set_grad_enabled(gradient), asked:
        out = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    real: torch.Tensor = out.detach().float()[batch.attention_mask.bool()]
    return real


@contextmanager
def asking(model: nn.Module) -> Iterator[None]:
    """Let what leaves the embeddings ask for a gradient, whether or not they are trained."""
    embeddings = cast("PreTrainedModel", model).get_input_embeddings()
    hook = embeddings.register_forward_hook(lambda _, __, out: out.requires_grad_(True))
    try:
        yield
    finally:
        hook.remove()


def loss(
    model: nn.Module, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, device: str
) -> tuple[float, int]:
    """Return (mean nats per counted token, counted tokens) in evaluation mode."""
    total, tokens = 0.0, 0
    with evaluating(model), torch.no_grad():
        for start in range(0, len(examples), BATCH):
            batch = pad(examples[start : start + BATCH], tokenizer, device)
            out = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
            total += float(nats(out, batch))
            tokens += batch.counted
    return total / tokens, tokens


def log_probabilities(logits: torch.Tensor, batch: TorchBatch) -> torch.Tensor:
    """Return each row's log-probability of its counted tokens, (rows,), in float64."""
    labels = batch.labels[:, 1:]
    scores = logits[:, :-1].double().log_softmax(-1)
    chosen = scores.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return (chosen * (labels != IGNORED)).sum(dim=1)


def nats(logits: torch.Tensor, batch: TorchBatch, smoothing: float = 0.0) -> torch.Tensor:
    """Return the cross-entropy of a batch, summed over its counted tokens."""
    return nn.functional.cross_entropy(
        logits[:, :-1].float().transpose(1, 2),
        batch.labels[:, 1:],
        ignore_index=IGNORED,
        reduction="sum",
        label_smoothing=smoothing,
    )


def gradients(model: nn.Module, batch: TorchBatch) -> dict[str, NDArray[np.float32]]:
    """Return the gradient of the mean nats for each parameter, by its name."""
    named = dict(model.named_parameters())
    with evaluating(model):
        found = torch.autograd.grad(_mean_nats(model, batch), list(named.values()))
    return {
        name: np.asarray(gradient.float().cpu())
        for name, gradient in zip(named, found, strict=True)
    }


def descend(model: nn.Module, batches: Iterable[TorchBatch], rate: float) -> tuple[float, ...]:
    """Train every parameter by plain SGD, a step a batch; return each batch's loss before."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    losses = []
    for batch in batches:
        loss = _mean_nats(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return tuple(losses)


def _mean_nats(model: nn.Module, batch: TorchBatch) -> torch.Tensor:
    out = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    return nats(out, batch) / batch.counted
