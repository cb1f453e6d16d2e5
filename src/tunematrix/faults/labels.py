"""Faults in which tokens the loss counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import Any

import torch
from trl.trainer import sft_trainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from tunematrix.faults.catalogue import Config, fault
from tunematrix.faults.patching import replaced

IGNORED = -100
Batch = dict[str, torch.Tensor]


@fault("labels")
def end_tokens_masked(config: Config) -> Iterator[None]:
    """Leave the last token of each text out of the loss, so that the model never learns to stop.

    Stands for collators that mask whatever is the pad token, where that is the end token as well
    (huggingface/trl#1623, huggingface/trl#3091).
    """

    def mask(batch: Batch, collator: Any) -> None:
        labels = batch["labels"]
        last = (labels != IGNORED).cumsum(1).argmax(1)
        labels[torch.arange(len(labels)), last] = IGNORED

    with _collated(mask):
        yield


@fault("labels")
def padding_counted(config: Config) -> Iterator[None]:
    """Count the padding in the loss, which soon is the easiest part of it.

    Stands for labels that are copied from the padded ids: nothing masks them unless one does so
    oneself (huggingface/transformers#16455, allenai/allennlp#5342).
    """

    def copy(batch: Batch, collator: Any) -> None:
        if "attention_mask" in batch:
            batch["labels"][batch["attention_mask"] == 0] = collator.pad_token_id

    with _collated(copy):
        yield


@fault("labels")
def last_row_ignored(config: Config) -> Iterator[None]:
    """Count nothing of the last row of each batch.

    Stands for rows in which a template for answers isn't found, since it is tokenized otherwise in
    the middle of a text: they are left out with a warning (huggingface/trl#1550).
    """

    def ignore(batch: Batch, collator: Any) -> None:
        if len(batch["labels"]) > 1:
            batch["labels"][-1] = IGNORED

    with _collated(ignore):
        yield


@fault("labels")
def shifted_beforehand(config: Config) -> Iterator[None]:
    """Shift the labels in the data, though the loss shifts them: each learns the next but one.

    Stands for users who take it that they have to (huggingface/transformers#32944).
    """

    def shift(batch: Batch, collator: Any) -> None:
        batch["labels"] = torch.nn.functional.pad(batch["labels"][:, 1:], (0, 1), value=IGNORED)

    with _collated(shift):
        yield


@fault("labels", seen_by=("data[*-lora-prompt-completion]", "data[*-full-prompt-completion]"))
def prompts_counted(config: Config) -> Iterator[None]:
    """Count prompts as well as their completions.

    Stands for a loss on completions alone that is asked for and not given, as where packing or
    another collator takes the place of the one that masked them.
    """

    def wrap(original: Any) -> Any:
        def collate(collator: Any, examples: Any) -> Any:
            bare = [{k: v for k, v in one.items() if k != "labels"} for one in examples]
            return original(collator, bare)

        return collate

    with replaced(DataCollatorForLanguageModeling, "torch_call", wrap):
        yield


@fault("labels", seen_by=("data[*-lora-prompt-completion]", "data[*-full-prompt-completion]"))
def first_token_of_answers_masked(config: Config) -> Iterator[None]:
    """Take the prompt for one token longer than it is.

    Stands for prompts that are tokenized alone, where their last token is another than in the whole
    text, or carries the space before the answer (huggingface/trl#1550).
    """

    def wrap(original: Any) -> Any:
        return lambda ids, other: original(ids, other) + 1

    with replaced(sft_trainer, "common_prefix_length", wrap):
        yield


@fault("labels", seen_by=("data[*-lora-chat]", "data[*-full-chat]"))
def stop_tokens_of_answers_masked(config: Config) -> Iterator[None]:
    """End the assistant's mask before the token that ends the turn.

    Stands for chat templates whose generation block leaves out the end of the turn
    (huggingface/trl#5988).
    """

    def wrap(original: Any) -> Any:
        def tokenize(*args: Any, **kwargs: Any) -> Any:
            found = dict(original(*args, **kwargs))
            if "assistant_masks" in found:
                bits = [*found["assistant_masks"], 0]
                found["assistant_masks"] = [int(bit and after) for bit, after in pairwise(bits)]
            return found

        return tokenize

    with replaced(sft_trainer, "_tokenize", wrap):
        yield


def _collated(change: Callable[[Batch, Any], None]) -> AbstractContextManager[None]:
    """Let `change` have each batch of SFTTrainer's, with its collator, before anything sees it."""

    def wrap(original: Any) -> Any:
        def collate(collator: Any, examples: Any) -> Any:
            batch = original(collator, examples)
            change(batch, collator)
            return batch

        return collate

    return replaced(DataCollatorForLanguageModeling, "torch_call", wrap)
