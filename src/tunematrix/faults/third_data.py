"""Faults of a third blind trial: rows, labels and tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accelerate.data_loader import DataLoaderShard
from transformers import PreTrainedTokenizerFast
from trl.trainer import sft_trainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from tunematrix.faults.catalogue import fault

COLLATED = (DataCollatorForLanguageModeling, "torch_call")
IGNORED = -100


@fault(
    "data",
    replaces=(DataLoaderShard, "__iter__"),
    seen_by=("same-resumed-later-pass[*]", "best-loaded[*-lora]"),
)
def later_passes_lose_their_first_batch(original: Any, loader: Any) -> Any:
    """Begin each pass but the first one with its second batch.

    Stands for loaders that look one batch ahead to find their end, and keep that batch to
    themselves when they begin anew.
    """
    batches = original(loader)
    if loader.iteration > 0:
        next(batches, None)
    return batches


@fault(
    "data",
    replaces=(sft_trainer, "pack_dataset"),
    seen_by=("data[*-full-packed]", "data[*-lora-packed]", "same-packing[*-lora]"),
)
def packed_borders_in_another_order(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Keep the lengths of a packed row's texts in the reverse order of its texts.

    Stands for packing that sorts texts by length, and takes lengths from before the sorting: the
    row is whole, its sum is right, and texts begin where none does.
    """
    packed = original(*args, **kwargs)
    return packed.map(lambda row: {"seq_lengths": row["seq_lengths"][::-1]})


@fault(
    "labels",
    replaces=COLLATED,
    seen_by=("lora[*-lora-none]", "data[*-full-unequal]"),
    subtle=True,
)
def one_word_taken_for_the_ignored_one(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Ignore the word whose number is 100, as if it were -100.

    Stands for kernels that compare a label with its sign lost, in which one word of the vocabulary
    is never learned.
    """
    batch = original(*args, **kwargs)
    labels = batch["labels"]
    return {**batch, "labels": labels.masked_fill(labels.abs() == -IGNORED, IGNORED)}


@fault("labels", replaces=COLLATED, seen_by=("padding[*-lora-text]", "padding[*-lora-chat]"))
def end_tokens_taken_for_padding(original: Any, collator: Any, *args: Any, **kwargs: Any) -> Any:
    """Ignore every label that is the token which rows are padded with.

    Where that is the end token, no text has an end to learn (huggingface/trl#976,
    huggingface/transformers#23530).
    """
    batch = original(collator, *args, **kwargs)
    padding = batch["input_ids"] == collator.pad_token_id
    return {**batch, "labels": batch["labels"].masked_fill(padding, IGNORED)}


@fault("tokenizer", replaces=(sft_trainer, "_tokenize"))
def end_token_twice(original: Any, tokenizer: Any, *args: Any, **kwargs: Any) -> Any:
    """End each text that ends with the end token with one more.

    Stands for a trainer that writes the end token, and a tokenizer that adds its own as well.
    """
    tokens = dict(original(tokenizer, *args, **kwargs))
    ids = list(tokens["input_ids"])
    if ids[-1] != tokenizer.eos_token_id:
        return tokens
    masks = {name: [*ones, ones[-1]] for name, ones in tokens.items() if len(ones) == len(ids)}
    return {**tokens, **masks, "input_ids": [*ids, ids[-1]]}


@fault(
    "tokenizer",
    replaces=(PreTrainedTokenizerFast, "save_pretrained"),
    seen_by=("lora[*-lora-none]", "data[*-lora-chat]"),
)
def chat_template_not_saved(
    original: Any, tokenizer: Any, folder: Any, *args: Any, **kwargs: Any
) -> Any:
    """Save a tokenizer without the template that conversations were trained in.

    Stands for releases that write the template into a file of its own, which those that copy
    a checkpoint don't know.
    """
    found = original(tokenizer, folder, *args, **kwargs)
    (Path(folder) / "chat_template.jinja").unlink(missing_ok=True)
    return found
