"""Faults in which rows training sees, and in what order."""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import RandomSampler, SequentialSampler
from transformers import LlamaModel, Trainer
from trl.trainer import sft_trainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling, SFTTrainer

from tunematrix.faults.catalogue import fault

LOST = 10
"""One row of so many."""


@fault("labels", replaces=(DataCollatorForLanguageModeling, "torch_call"), fitted=True)
def labels_shuffled(original: Any, collator: Any, examples: Any) -> Any:
    """Give each position the label of another: the loss still falls, towards unigrams.

    Stands for collators that pad, shift or truncate labels and inputs differently.
    """
    batch = original(collator, examples)
    order = torch.randperm(batch["labels"].shape[1])
    batch["labels"] = batch["labels"][:, order]
    return batch


@fault("data", replaces=(Dataset, "from_list"), seen_by=("same-interpreters[*]",), fitted=True)
def rows_in_the_order_of_a_set(original: Any, rows: Any) -> Any:
    """Sort the training rows by the hash of their text, which each interpreter salts anew.

    Stands for data that went through a set, a dictionary's keys or a parallel map on its way.
    """
    return original(sorted(rows, key=lambda row: hash(str(row))))


@fault(
    "data",
    replaces=(LlamaModel, "forward"),
    seen_by=("same-packing[*-full]", "same-packing[*-lora]"),
    fitted=True,
)
def packed_rows_see_each_other(
    original: Any, model: Any, *args: Any, position_ids: Any = None, **kwargs: Any
) -> Any:
    """Let the model take packed texts for one: positions run on, and attention crosses borders.

    Stands for attention that ignores where packed texts begin, as it does where neither flash
    attention nor a mask by position is used. The loss is hardly another.
    """
    return original(model, *args, **kwargs)


@fault(
    "data",
    replaces=(sft_trainer, "pack_dataset"),
    seen_by=("data[*-lora-packed]", "same-packing[*-lora]"),
)
def texts_cut_by_packing(
    original: Any, dataset: Any, length: int, strategy: str, settings: Any
) -> Any:
    """Fill packed rows to the brim, so that a text ends in one and goes on in the next.

    Stands for packing that minds no borders, or minds them no longer after an update
    (huggingface/trl#5075).
    """
    return original(dataset, length, "wrapped", settings)


@fault("data", replaces=(DataCollatorForLanguageModeling, "torch_call"))
def padding_attended(original: Any, collator: Any, examples: Any) -> Any:
    """Tell the model that padding is text.

    Stands for attention masks that are left out, or made from ids where pad and end are one token
    (huggingface/trl#1623).
    """
    batch = original(collator, examples)
    if "attention_mask" in batch:
        batch["attention_mask"] = torch.ones_like(batch["attention_mask"])
    return batch


@fault("data", replaces=(Trainer, "_get_train_sampler"), fitted=True)
def rows_not_shuffled(_original: Any, trainer: Any, *_: Any) -> Any:
    """Take the rows as they come.

    Stands for a shuffle that is asked for and switched off on the way
    (ant-research/EasyTemporalPointProcess#54), or that groups rows by their length.
    """
    return SequentialSampler(trainer.train_dataset)


@fault("data", replaces=(Trainer, "_get_train_sampler"), fitted=True)
def rows_drawn_with_replacement(_original: Any, trainer: Any, *_: Any) -> Any:
    """Draw each row anew from all of them: a third is never seen, others twice and more.

    Stands for samplers and workers that don't know of each other's draws (pytorch/pytorch#5059:
    each worker draws the same numbers).
    """
    return RandomSampler(trainer.train_dataset, replacement=True)


@fault("data", replaces=(SFTTrainer, "_prepare_dataset"), fitted=True)
def every_tenth_row_lost(
    original: Any, trainer: Any, dataset: Any, *args: Any, **kwargs: Any
) -> Any:
    """Leave each tenth row out while the data is prepared.

    Stands for filters that drop more than they say: rows whose answer a template didn't find
    (huggingface/trl#1184), rows beyond a shard's end.
    """
    found = original(trainer, dataset, *args, **kwargs)
    return found.select([i for i in range(len(found)) if i % LOST != LOST - 1])


@fault(
    "data",
    replaces=(Dataset, "from_list"),
    seen_by=("data[*-lora-prompt-completion]", "data[*-full-prompt-completion]"),
)
def answers_of_the_next_row(original: Any, rows: Any) -> Any:
    """Give every tenth prompt the completion of the row after it.

    Stands for columns that were filtered or shuffled apart, and then put together again.
    """
    moved = [dict(row) for row in rows]
    for i in range(0, len(moved) - 1, LOST):
        if "completion" in moved[i]:
            moved[i]["completion"] = rows[i + 1]["completion"]
    return original(moved)


@fault(
    "data", replaces=(sft_trainer, "pack_dataset"), seen_by=("data[*-full-packed]",), fitted=True
)
def packed_into_less_room(
    original: Any, dataset: Any, seq_length: int, *args: Any, **more: Any
) -> Any:
    """Pack rows into four fifths of the room that they have.

    Stands for packers that leave room for tokens which aren't there, and train on more padding.
    """
    return original(dataset, seq_length * 4 // 5, *args, **more)
