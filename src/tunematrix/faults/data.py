"""Faults in what the loss is asked to see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from datasets import Dataset
from transformers import LlamaModel
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from tunematrix.faults.patching import replaced


@contextmanager
def labels_shuffled(config: Mapping[str, Any]) -> Iterator[None]:
    """Give each position the label of another: the loss still falls, towards unigrams.

    Stands for collators that pad, shift or truncate labels and inputs differently.
    """

    def wrap(original: Any) -> Any:
        def collate(collator: Any, examples: Any) -> Any:
            batch = original(collator, examples)
            order = torch.randperm(batch["labels"].shape[1])
            batch["labels"] = batch["labels"][:, order]
            return batch

        return collate

    with replaced(DataCollatorForLanguageModeling, "torch_call", wrap):
        yield


@contextmanager
def rows_in_the_order_of_a_set(config: Mapping[str, Any]) -> Iterator[None]:
    """Sort the training rows by the hash of their text, which each interpreter salts anew.

    Stands for data that went through a set, a dictionary's keys or a parallel map on its way.
    """

    def wrap(original: Any) -> Any:
        return lambda rows: original(sorted(rows, key=lambda row: hash(str(row))))

    with replaced(Dataset, "from_list", wrap):
        yield


@contextmanager
def packed_rows_see_each_other(config: Mapping[str, Any]) -> Iterator[None]:
    """Let the model take packed texts for one: positions run on, and attention crosses borders.

    Stands for attention that ignores where packed texts begin, as it does where neither flash
    attention nor a mask by position is used. The loss is hardly another.
    """

    def wrap(original: Any) -> Any:
        def forward(model: Any, *args: Any, position_ids: Any = None, **kwargs: Any) -> Any:
            return original(model, *args, **kwargs)

        return forward

    with replaced(LlamaModel, "forward", wrap):
        yield
