"""Faults in which tokens the loss counts."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from trl.trainer import sft_trainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from tunematrix.faults.catalogue import fault

IGNORED = -100
COLLATED = (DataCollatorForLanguageModeling, "torch_call")
"""Where SFTTrainer's rows become a batch, before anything sees it."""


@fault("labels", replaces=COLLATED)
def end_tokens_masked(original: Any, collator: Any, examples: Any) -> Any:
    """Leave the last token of each text out of the loss, so that the model never learns to stop.

    Stands for collators that mask whatever is the pad token, where that is the end token as well
    (huggingface/trl#1623, huggingface/trl#3091).
    """
    batch = original(collator, examples)
    labels = batch["labels"]
    last = (labels != IGNORED).cumsum(1).argmax(1)
    labels[torch.arange(len(labels)), last] = IGNORED
    return batch


@fault("labels", replaces=COLLATED)
def padding_counted(original: Any, collator: Any, examples: Any) -> Any:
    """Count the padding in the loss, which soon is the easiest part of it.

    Stands for labels that are copied from the padded ids: nothing masks them unless one does so
    oneself (huggingface/transformers#16455, allenai/allennlp#5342).
    """
    batch = original(collator, examples)
    if "attention_mask" in batch:
        batch["labels"][batch["attention_mask"] == 0] = collator.pad_token_id
    return batch


@fault("labels", replaces=COLLATED)
def last_row_ignored(original: Any, collator: Any, examples: Any) -> Any:
    """Count nothing of the last row of each batch.

    Stands for rows in which a template for answers isn't found, since it is tokenized otherwise in
    the middle of a text: they are left out with a warning (huggingface/trl#1550).
    """
    batch = original(collator, examples)
    if len(batch["labels"]) > 1:
        batch["labels"][-1] = IGNORED
    return batch


@fault("labels", replaces=COLLATED)
def shifted_beforehand(original: Any, collator: Any, examples: Any) -> Any:
    """Shift the labels in the data, though the loss shifts them: each learns the next but one.

    Stands for users who take it that they have to (huggingface/transformers#32944).
    """
    batch = original(collator, examples)
    batch["labels"] = torch.nn.functional.pad(batch["labels"][:, 1:], (0, 1), value=IGNORED)
    return batch


@fault(
    "labels",
    replaces=COLLATED,
    seen_by=("data[*-lora-prompt-completion]", "data[*-full-prompt-completion]"),
)
def prompts_counted(original: Any, collator: Any, examples: Any) -> Any:
    """Count prompts as well as their completions.

    Stands for a loss on completions alone that is asked for and not given, as where packing or
    another collator takes the place of the one that masked them.
    """
    bare = [{k: v for k, v in one.items() if k != "labels"} for one in examples]
    return original(collator, bare)


@fault(
    "labels",
    replaces=(sft_trainer, "common_prefix_length"),
    seen_by=("data[*-lora-prompt-completion]", "data[*-full-prompt-completion]"),
)
def first_token_of_answers_masked(original: Any, ids: Any, other: Any) -> Any:
    """Take the prompt for one token longer than it is.

    Stands for prompts that are tokenized alone, where their last token is another than in the whole
    text, or carries the space before the answer (huggingface/trl#1550).
    """
    return original(ids, other) + 1


@fault(
    "labels",
    replaces=(sft_trainer, "_tokenize"),
    seen_by=("data[*-lora-chat]", "data[*-full-chat]"),
)
def stop_tokens_of_answers_masked(original: Any, *args: Any, **kwargs: Any) -> Any:
    """End the assistant's mask before the token that ends the turn.

    Stands for chat templates whose generation block leaves out the end of the turn
    (huggingface/trl#5988).
    """
    found = dict(original(*args, **kwargs))
    if "assistant_masks" in found:
        bits = [*found["assistant_masks"], 0]
        found["assistant_masks"] = [int(bit and after) for bit, after in pairwise(bits)]
    return found


PACKED = ("packed-forms[*-lora-packed-completion]", "packed-forms[*-lora-packed-chat]")


@fault("labels", replaces=(sft_trainer, "pack_dataset"), seen_by=PACKED)
def completion_masks_lost_in_packing(original: Any, dataset: Any, *args: Any) -> Any:
    """Count prompts as well as completions, where rows are packed.

    Stands for packing that keeps the ids of a row and not its mask.
    """
    bare = dataset.map(lambda row: {"labels": row["input_ids"]})
    return original(bare, *args)


@fault("labels", replaces=COLLATED, seen_by=("data[*-lora-packed]", "data[*-full-packed]"))
def first_words_of_packed_texts_counted(original: Any, collator: Any, examples: Any) -> Any:
    """Predict the first word of each packed text from the last one of the text before it.

    Stands for packing that marks no borders in the labels.
    """
    batch = original(collator, examples)
    if "position_ids" in batch:
        starts = batch["position_ids"] == 0
        batch["labels"][starts] = batch["input_ids"][starts]
    return batch


@fault("labels", replaces=COLLATED, seen_by=PACKED)
def end_tokens_of_packed_texts_masked(original: Any, collator: Any, examples: Any) -> Any:
    """Leave out the last token of each packed text, but for that of the last one.

    Stands for borders that are masked on the wrong side.
    """
    batch = original(collator, examples)
    if "position_ids" in batch:
        ends = (batch["position_ids"] == 0).roll(-1, dims=1)
        ends[:, -1] = False
        batch["labels"][ends] = IGNORED
    return batch
