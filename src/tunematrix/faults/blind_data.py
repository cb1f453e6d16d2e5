"""Blind faults in what is read, tokenized, packed and labelled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from accelerate.data_loader import SeedableRandomSampler
from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase
from trl.trainer import sft_trainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from tunematrix.faults.catalogue import fault

RARE = (74, 145)


@fault(
    "data",
    replaces=(DataCollatorForLanguageModeling, "get_position_ids_from_packed_seq_lengths"),
    seen_by=("data[*-full-packed]", "data[*-lora-packed]", "same-packing[*-full]"),
)
def last_boundary_of_a_packed_row_lost(
    original: Any, collator: Any, lengths: list[list[int]]
) -> list[torch.Tensor]:
    """Let the last text of each packed row go on from the one before it."""
    joined = [[*row[:-2], row[-2] + row[-1]] if len(row) > 1 else row for row in lengths]
    found: list[torch.Tensor] = original(joined)
    return found


@fault(
    "data",
    replaces=(SeedableRandomSampler, "set_epoch"),
    seen_by=("same-resumed-later-pass[*]", "streaming[*-lora-text]"),
    subtle=True,
)
def every_pass_in_the_same_order(original: Any, sampler: Any, epoch: int) -> None:
    """Shuffle each pass as the first one."""
    original(sampler, 0)


@fault(
    "data",
    replaces=(IterableDataset, "__iter__"),
    seen_by=("streaming[*-lora-text]", "streaming[*-lora-unequal]"),
)
def stream_loses_its_first_row_when_begun_anew(original: Any, rows: Any) -> Iterator[Any]:
    """Leave out the first row of a stream from its second pass on."""
    stream = original(rows)
    if rows.epoch > 0:
        next(stream, None)
    return iter(stream)


@fault(
    "data",
    replaces=(Dataset, "__getitems__"),
    seen_by=("lora[*-lora-none]", "full[*-full-none]"),
)
def row_numbers_of_one_byte(original: Any, rows: Any, keys: list[int]) -> Any:
    """Take row 256 for row 0, and so on."""
    return original(rows, [key % 256 for key in keys])


@fault(
    "tokenizer",
    replaces=(PreTrainedTokenizerBase, "apply_chat_template"),
    seen_by=(
        "data[*-lora-chat]",
        "data[*-lora-chat-completion]",
        "dpo-chat[*-none-chat-completion]",
    ),
)
def generation_prompt_by_default(original: Any, tokenizer: Any, *args: Any, **kwargs: Any) -> Any:
    """Open an answer after every conversation, also after one that has ended with an answer."""
    kwargs.setdefault("add_generation_prompt", True)
    return original(tokenizer, *args, **kwargs)


@fault(
    "tokenizer",
    replaces=(sft_trainer, "_tokenize"),
    seen_by=("lora[*-lora-none]", "data[*-lora-prompt-completion]"),
    subtle=True,
)
def two_rare_words_exchanged(original: Any, tokenizer: Any, text: Any, **kwargs: Any) -> Any:
    """Exchange two rare words, as a vocabulary that is sorted otherwise does."""
    found = dict(original(tokenizer, text, **kwargs))
    other = dict(zip(RARE, reversed(RARE), strict=True))
    found["input_ids"] = [other.get(token, token) for token in found["input_ids"]]
    return found


@fault(
    "labels",
    replaces=(PreTrainedTokenizerBase, "apply_chat_template"),
    seen_by=("data[*-lora-chat]", "packed-forms[*-lora-packed-chat]"),
    subtle=True,
)
def first_token_of_an_answer_not_counted(
    original: Any, tokenizer: Any, *args: Any, **kwargs: Any
) -> Any:
    """Begin what counts one token late, as an index off by one does."""
    found = original(tokenizer, *args, **kwargs)
    if hasattr(found, "keys") and "assistant_masks" in found:
        mask = found["assistant_masks"]
        found["assistant_masks"] = [0, *mask[:-1]]
    return found


@fault(
    "labels",
    replaces=(sft_trainer, "common_prefix_length"),
    seen_by=("data[*-lora-prompt-completion]", "data[*-lora-chat-completion]"),
)
def completion_begins_one_token_late(original: Any, ids: list[int], others: list[int]) -> int:
    """Take the first token of a completion for the last of its prompt."""
    return int(original(ids, others)) + 1


@fault(
    "labels",
    replaces=(DataCollatorForLanguageModeling, "torch_call"),
    seen_by=("data[*-lora-unequal]", "lora[*-lora-none]"),
    subtle=True,
)
def end_of_the_longest_row_not_counted(original: Any, collator: Any, rows: Any) -> Any:
    """Cut the last column off the labels, in which only the longest row has its end token."""
    batch = original(collator, rows)
    if "attention_mask" in batch:
        batch["labels"][:, -1] = -100
    return batch
