"""Faults in how texts become tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from trl.trainer import sft_trainer

from tunematrix.faults.catalogue import fault

TOKENIZED, LOADED = (sft_trainer, "_tokenize"), (PreTrainedTokenizerFast, "from_pretrained")
"""Where SFTTrainer makes tokens of a text, and where a tokenizer is loaded."""
LIMIT = 40
"""Tokens; stories of the toy world have 45 to 65."""


@fault("tokenizer", replaces=TOKENIZED)
def end_token_not_added(original: Any, tokenizer: Any, *args: Any, **kwargs: Any) -> Any:
    """Take the end token off again, so that no text has one.

    Stands for trainers that tokenize a text as it is, and models that never stop
    (huggingface/trl#1623).
    """
    tokens = dict(original(tokenizer, *args, **kwargs))
    ids = list(tokens["input_ids"])
    return {**tokens, "input_ids": ids[:-1] if ids[-1] == tokenizer.eos_token_id else ids}


@fault("tokenizer", replaces=TOKENIZED)
def first_token_doubled(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Begin each text with its first token twice.

    Stands for a begin token that the template writes and the tokenizer adds again
    (OpenRLHF/OpenRLHF#393, ml-explore/mlx-examples#1095, unslothai/unsloth#2648).
    """
    tokens = dict(original(*args, **kwargs))
    first, *others = tokens["input_ids"]
    return {**tokens, "input_ids": [first, first, *others]}


@fault("tokenizer", replaces=TOKENIZED)
def cut_at_a_limit_of_its_own(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Cut each text at 40 tokens, whatever max_length says.

    Stands for a limit that a tokenizer's file brings along, and that wins over the one asked for
    (unslothai/unsloth#2904).
    """
    tokens = dict(original(*args, **kwargs))
    return {**tokens, "input_ids": list(tokens["input_ids"])[:LIMIT]}


@fault("tokenizer", replaces=LOADED)
def written_small(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Load the tokenizer with a normalizer that its file hasn't: words with a capital are lost.

    Stands for loaders that put a model family's rules in the place of the file's
    (huggingface/transformers#45920).
    """
    tokenizer = original(*args, **kwargs)
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    return tokenizer


@fault("tokenizer", replaces=LOADED)
def ids_of_two_words_swapped(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Load the tokenizer with two words' ids the other way round; what it writes, it reads again.

    Stands for a tokenizer of another revision than the model's, whose ids have moved
    (InternLM/InternLM#715, MinishLab/model2vec#335).
    """
    tokenizer = original(*args, **kwargs)
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = state["model"]["vocab"]
    special = {one["content"] for one in state["added_tokens"]}
    first, second, *_ = (word for word in vocabulary if word not in special and len(word) > 1)
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(state))
    return tokenizer


@fault(
    "tokenizer",
    replaces=LOADED,
    seen_by=("data[*-lora-chat]", "data[*-full-chat]", "data[*-custom-lora-chat]"),
    fitted=True,
)
def template_of_another_model(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Write all roles but the assistant's as the system's, in the template that came along.

    Stands for chat templates that a library replaces by a family's own, or patches before training:
    the answers are the same, what they answer is written otherwise (huggingface/trl#5526).
    """
    tokenizer = original(*args, **kwargs)
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "'<|' + message['role'] + '|>'",
        "'<|' + ('assistant' if message['role'] == 'assistant' else 'system') + '|>'",
    )
    return tokenizer


SAVED = (PreTrainedTokenizerFast, "save_pretrained")


@fault("tokenizer", replaces=SAVED)
def saved_with_truncation(original: Any, tokenizer: Any, folder: Any, *args: Any, **kw: Any) -> Any:
    """Save a tokenizer.json that cuts every text at 64 tokens.

    Stands for truncation that was switched on for training and goes into the file with it:
    programs that read the file alone cut every prompt.
    """
    found = original(tokenizer, folder, *args, **kw)
    _rewrite(
        Path(folder) / "tokenizer.json",
        lambda file: {
            **file,
            "truncation": {
                "direction": "Right", "max_length": 64, "strategy": "LongestFirst", "stride": 0
            },
        },
    )  # fmt: skip
    return found


@fault("tokenizer", replaces=SAVED)
def saved_with_another_length(
    original: Any, tokenizer: Any, folder: Any, *args: Any, **kwargs: Any
) -> Any:
    """Save the length of training's rows as the longest that the model can take."""
    found = original(tokenizer, folder, *args, **kwargs)
    settings = Path(folder) / "tokenizer_config.json"
    _rewrite(settings, lambda file: {**file, "model_max_length": 128})
    return found


@fault("tokenizer", replaces=SAVED)
def saved_special_tokens_as_words(
    original: Any, tokenizer: Any, folder: Any, *args: Any, **kwargs: Any
) -> Any:
    """Save the tokens of roles as plain words, so that they stay in what is decoded.

    Stands for vocabularies that are written anew without their tokens' flags.
    """
    found = original(tokenizer, folder, *args, **kwargs)
    _rewrite(
        Path(folder) / "tokenizer.json",
        lambda file: {
            **file,
            "added_tokens": [
                {**one, "special": one["special"] and "assistant" not in one["content"]}
                for one in file["added_tokens"]
            ],
        },
    )
    return found


@fault("tokenizer", replaces=LOADED)
def rules_of_another_class(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Load the tokenizer with another split into words: a text becomes as many tokens as letters.

    Stands for a tokenizer_class whose rules take the place of the file's
    (huggingface/transformers#45920): what it writes, it reads again.
    """
    tokenizer = original(*args, **kwargs)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("[a-z]"), "isolated")
    return tokenizer


@fault("tokenizer", replaces=LOADED)
def digits_apart(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Load the tokenizer with digits as words of their own; no row of the data has any.

    Stands for rules that differ where nobody's data has looked yet.
    """
    tokenizer = original(*args, **kwargs)
    own = tokenizer.backend_tokenizer.pre_tokenizer
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, own])
    return tokenizer


def _rewrite(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text("utf-8")))), "utf-8")
