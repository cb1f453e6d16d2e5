"""Examples of unequal length → padded batches, as the plain loop and the scoring take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from tunematrix.stack.engines.examples import IGNORED, Example


@dataclass(frozen=True)
class TorchBatch:
    """Examples padded on the right: ids, attention mask and labels, each (rows, columns)."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor

    @property
    def counted(self) -> int:
        """Number of tokens in the loss: a row's first has nothing to be predicted from."""
        return int((self.labels[:, 1:] != IGNORED).sum())


def pad(examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, device: str) -> TorchBatch:
    """Stack examples of unequal length.

    Raises:
        ValueError: the tokenizer has no pad token.
    """
    if not isinstance(tokenizer.pad_token_id, int):
        message = "the checkpoint's tokenizer has no pad token; set one in tokenizer_config.json"
        raise ValueError(message)
    width = max(len(example.ids) for example in examples)
    shape = (len(examples), width)
    ids = torch.full(shape, tokenizer.pad_token_id)
    mask = torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, IGNORED)
    for row, example in enumerate(examples):
        size = len(example.ids)
        ids[row, :size] = torch.tensor(example.ids)
        mask[row, :size] = 1
        counted = torch.tensor(example.counted)
        labels[row, :size] = ids[row, :size].masked_fill(~counted, IGNORED)
    return TorchBatch(ids.to(device), mask.to(device), labels.to(device))
