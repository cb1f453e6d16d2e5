"""Logits and losses of a model on fixed examples, by the definition of cross-entropy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

BATCH = 64


@dataclass(frozen=True)
class Example:
    """One tokenized row.

    Attributes:
        ids: token ids; counted: for each, whether the loss counts it.
    """

    ids: tuple[int, ...]
    counted: tuple[bool, ...]


@dataclass(frozen=True)
class Batch:
    """Examples padded on the right: ids, attention mask and labels, each (rows, columns)."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor


def tokenize(tokenizer: PreTrainedTokenizerBase, context: str, counted: str) -> Example:
    """Tokenize a context that doesn't count, followed by a text that does."""
    before = tokenizer(context, add_special_tokens=False)["input_ids"] if context else []
    after = tokenizer(counted, add_special_tokens=False)["input_ids"]
    marks = (*(False for _ in before), *(True for _ in after))
    return Example(ids=(*before, *after), counted=marks)


def pad(examples: Sequence[Example], pad_id: int, device: str) -> Batch:
    """Stack examples of unequal length."""
    width = max(len(example.ids) for example in examples)
    shape = (len(examples), width)
    ids = torch.full(shape, pad_id)
    mask = torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, -100)
    for row, example in enumerate(examples):
        size = len(example.ids)
        ids[row, :size] = torch.tensor(example.ids)
        mask[row, :size] = 1
        counted = torch.tensor(example.counted)
        labels[row, :size] = ids[row, :size].masked_fill(~counted, -100)
    return Batch(ids.to(device), mask.to(device), labels.to(device))


def logits(model: nn.Module, batch: Batch, *, gradient: bool = False) -> torch.Tensor:
    """Return float32 logits at real positions, (tokens, vocabulary), in evaluation mode.

    `gradient` keeps autograd on: without it, bitsandbytes repacks 4-bit weights on some CPUs
    and rounds their scales, which would be mistaken for training.
    """
    training = model.training
    model.eval()
    with torch.set_grad_enabled(gradient):
        out = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    model.train(training)
    real: torch.Tensor = out.detach().float()[batch.attention_mask.bool()]
    return real


@torch.no_grad()
def loss(
    model: nn.Module, examples: Sequence[Example], pad_id: int, device: str
) -> tuple[float, int]:
    """Return (mean nats per counted token, counted tokens) in evaluation mode.

    The first token of a row has nothing before it to be predicted from and never counts.
    """
    training = model.training
    model.eval()
    nats, tokens = 0.0, 0
    for start in range(0, len(examples), BATCH):
        batch = pad(examples[start : start + BATCH], pad_id, device)
        out = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
        labels = batch.labels[:, 1:]
        losses = nn.functional.cross_entropy(
            out[:, :-1].float().transpose(1, 2), labels, ignore_index=-100, reduction="sum"
        )
        nats += float(losses)
        tokens += int((labels != -100).sum())
    model.train(training)
    return nats / tokens, tokens
