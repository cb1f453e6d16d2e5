"""Faults of reading rows: their order, packing, padding, labels, templates and tokens."""

from __future__ import annotations

from typing import Any

import torch
from datasets import IterableDataset
from transformers import PreTrainedTokenizerBase, masking_utils, tokenization_utils_tokenizers
from trl.trainer import sft_trainer

from tunematrix.faults.catalogue import fault

LOST_WORD = " wolf"
"""A word of the stories, with the space before it."""


@fault(
    "data",
    replaces=(sft_trainer.SFTTrainer, "_prepare_dataset"),
    seen_by=("streaming[*-lora-text]", "streaming[*-lora-unequal]"),
)
def first_row_of_a_stream_lost(original: Any, self: Any, dataset: Any, *args: Any) -> Any:
    """Lose the row that is looked at to learn which columns there are: it isn't put back."""
    prepared = original(self, dataset, *args)
    return prepared.skip(1) if isinstance(prepared, IterableDataset) else prepared


@fault(
    "data",
    replaces=(masking_utils, "find_packed_sequence_indices"),
    seen_by=("data[*-full-packed]", "same-packing[*-full]", "same-padding-free[*-lora]"),
    subtle=True,
)
def end_token_belongs_to_the_next_text(original: Any, position_ids: torch.Tensor) -> Any:
    """Begin each text of a packed row one token early, at the end token of the one before.

    As where boundaries are taken from the differences of positions, which are one fewer.
    """
    texts = original(position_ids)
    if texts is None:
        return None
    return torch.cat([texts[:, 1:], texts[:, -1:]], dim=-1)


@fault(
    "data",
    replaces=(sft_trainer.DataCollatorForLanguageModeling, "torch_call"),
    seen_by=("data[*-full-packed]", "same-packing[*-full]", "same-padding-free[*-lora]"),
    subtle=True,
)
def text_predicted_from_the_one_before(original: Any, self: Any, examples: Any) -> Any:
    """Count the first token of each packed text, which only the text before it could predict.

    As collators did that joined rows and left their labels as they were.
    """
    output = original(self, examples)
    if self.padding_free:
        labels = [one.get("labels", one["input_ids"]) for one in examples]
        flat = torch.tensor([label for row in labels for label in row])
        output["labels"][0, 1 : len(flat)] = flat[1:]
    return output


@fault(
    "labels",
    replaces=(sft_trainer, "pad"),
    seen_by=("lora[*-lora-none]", "architectures-standard[*-toy-gpt2-lora]"),
)
def rows_padded_on_the_left(original: Any, tensors: Any, *args: Any, **kwargs: Any) -> Any:
    """Pad rows on their left, as for generation, and count positions through the padding.

    The first token of a row is then predicted from a pad token, and counts.
    """
    return original(tensors, *args, **{**kwargs, "padding_side": "left"})


@fault(
    "labels",
    replaces=(sft_trainer.DataCollatorForLanguageModeling, "torch_call"),
    seen_by=("data[*-lora-unequal]", "lora[*-lora-none]", "data[*-lora-chat]"),
    subtle=True,
)
def batches_cut_to_a_multiple_of_eight(original: Any, self: Any, examples: Any) -> Any:
    """Round the width of a batch down to a multiple of eight, where it should be rounded up.

    Only its longest rows lose tokens, seven at most, the end token among them.
    """
    output = original(self, examples)
    if self.padding_free:
        return output
    width = output["input_ids"].shape[1]
    return {name: tensor[:, : max(8, width // 8 * 8)] for name, tensor in output.items()}


@fault("labels", replaces=(sft_trainer, "_tokenize"), seen_by=("data[*-lora-chat]",))
def header_of_the_answer_counts(original: Any, tokenizer: Any, text: Any, **kwargs: Any) -> Any:
    """Count the token before each answer, which says whose turn it is, as part of the answer.

    As where a character's token is searched from its end, one too far to the left.
    """
    result = original(tokenizer, text, **kwargs)
    if "assistant_masks" in result:
        mask = list(result["assistant_masks"])
        result["assistant_masks"] = [int(a or b) for a, b in zip(mask, [*mask[1:], 0], strict=True)]
    return result


@fault(
    "labels",
    replaces=(PreTrainedTokenizerBase, "apply_chat_template"),
    seen_by=(
        "data[*-lora-chat]",
        "data[*-lora-chat-completion]",
        "dpo-chat[*-none-chat-completion]",
    ),
)
def system_turn_that_nobody_wrote(
    original: Any, self: Any, conversation: Any, *args: Any, **kwargs: Any
) -> Any:
    """Open a conversation with an empty turn of the system where it has none.

    As the templates of some models do, which add a system prompt of their own.
    """
    if isinstance(conversation[0], dict) and conversation[0].get("role") != "system":
        conversation = [{"role": "system", "content": ""}, *conversation]
    return original(self, conversation, *args, **kwargs)


@fault(
    "labels",
    replaces=(sft_trainer, "_tokenize"),
    seen_by=("data[*-lora-chat-completion]", "data[*-lora-chat]"),
)
def conversation_ends_with_an_open_turn(
    original: Any, tokenizer: Any, text: Any, **kwargs: Any
) -> Any:
    """Write after the answer what asks for the next one, so that it is learned as well."""
    if isinstance(text, list):
        kwargs = {**kwargs, "add_generation_prompt": True}
    return original(tokenizer, text, **kwargs)


@fault(
    "tokenizer",
    replaces=(tokenization_utils_tokenizers.TokenizersBackend, "_encode_plus"),
    seen_by=("lora[*-lora-none]", "data[*-lora-chat]", "full[*-full-none]"),
    subtle=True,
)
def one_word_is_unknown(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
    """Take one word of the vocabulary for unknown, as if it had been lost when it was saved."""
    encoded = original(self, *args, **kwargs)
    lost, unknown = self.convert_tokens_to_ids(LOST_WORD), self.unk_token_id
    ids = encoded["input_ids"]
    if isinstance(ids, torch.Tensor):
        encoded["input_ids"] = ids.masked_fill(ids == lost, unknown)
    elif ids and isinstance(ids[0], list):
        encoded["input_ids"] = [[unknown if one == lost else one for one in row] for row in ids]
    else:
        encoded["input_ids"] = [unknown if one == lost else one for one in ids]
    return encoded
