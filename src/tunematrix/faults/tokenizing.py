"""Faults in how texts become tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from tokenizers import Tokenizer, normalizers
from transformers import PreTrainedTokenizerFast
from trl.trainer import sft_trainer

from tunematrix.faults.catalogue import Config, fault
from tunematrix.faults.patching import replaced

LIMIT = 40
"""Tokens; stories of the toy world have 45 to 65."""


@fault("tokenizer")
def end_token_not_added(config: Config) -> Iterator[None]:
    """Take the end token off again, so that no text has one.

    Stands for trainers that tokenize a text as it is, and models that never stop
    (huggingface/trl#1623).
    """

    def strip(ids: list[int], tokenizer: Any) -> list[int]:
        return ids[:-1] if ids[-1] == tokenizer.eos_token_id else ids

    with _tokenized(strip):
        yield


@fault("tokenizer")
def first_token_doubled(config: Config) -> Iterator[None]:
    """Begin each text with its first token twice.

    Stands for a begin token that the template writes and the tokenizer adds again
    (OpenRLHF/OpenRLHF#393, ml-explore/mlx-examples#1095, unslothai/unsloth#2648).
    """
    with _tokenized(lambda ids, tokenizer: [ids[0], *ids]):
        yield


@fault("tokenizer")
def cut_at_a_limit_of_its_own(config: Config) -> Iterator[None]:
    """Cut each text at 40 tokens, whatever max_length says.

    Stands for a limit that a tokenizer's file brings along, and that wins over the one asked for
    (unslothai/unsloth#2904).
    """
    with _tokenized(lambda ids, tokenizer: ids[:LIMIT]):
        yield


@fault("tokenizer")
def written_small(config: Config) -> Iterator[None]:
    """Load the tokenizer with a normalizer that its file hasn't: words with a capital are lost.

    Stands for loaders that put a model family's rules in the place of the file's
    (huggingface/transformers#45920).
    """

    def change(tokenizer: Any) -> None:
        tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()

    with _loaded(change):
        yield


@fault("tokenizer")
def ids_of_two_words_swapped(config: Config) -> Iterator[None]:
    """Load the tokenizer with two words' ids the other way round; what it writes, it reads again.

    Stands for a tokenizer of another revision than the model's, whose ids have moved
    (InternLM/InternLM#715, MinishLab/model2vec#335).
    """

    def change(tokenizer: Any) -> None:
        state = json.loads(tokenizer.backend_tokenizer.to_str())
        vocabulary = state["model"]["vocab"]
        special = {one["content"] for one in state["added_tokens"]}
        first, second, *_ = (word for word in vocabulary if word not in special and len(word) > 1)
        vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
        tokenizer._tokenizer = Tokenizer.from_str(json.dumps(state))

    with _loaded(change):
        yield


@fault("tokenizer", seen_by=("data[*-lora-chat]", "data[*-full-chat]", "data[*-custom-lora-chat]"))
def template_of_another_model(config: Config) -> Iterator[None]:
    """Write all roles but the assistant's as the system's, in the template that came along.

    Stands for chat templates that a library replaces by a family's own, or patches before training:
    the answers are the same, what they answer is written otherwise (huggingface/trl#5526).
    """

    def change(tokenizer: Any) -> None:
        tokenizer.chat_template = tokenizer.chat_template.replace(
            "'<|' + message['role'] + '|>'",
            "'<|' + ('assistant' if message['role'] == 'assistant' else 'system') + '|>'",
        )

    with _loaded(change):
        yield


def _tokenized(change: Callable[[list[int], Any], list[int]]) -> AbstractContextManager[None]:
    """Let `change` have the ids of each text that SFTTrainer tokenizes, with the tokenizer."""

    def wrap(original: Any) -> Any:
        def tokenize(tokenizer: Any, *args: Any, **kwargs: Any) -> Any:
            found = dict(original(tokenizer, *args, **kwargs))
            found["input_ids"] = change(list(found["input_ids"]), tokenizer)
            return found

        return tokenize

    return replaced(sft_trainer, "_tokenize", wrap)


def _loaded(change: Callable[[Any], None]) -> AbstractContextManager[None]:
    """Let `change` have each tokenizer that is loaded."""

    def wrap(original: Any) -> Any:
        def load(*args: Any, **kwargs: Any) -> Any:
            tokenizer = original(*args, **kwargs)
            change(tokenizer)
            return tokenizer

        return load

    return replaced(PreTrainedTokenizerFast, "from_pretrained", wrap)
