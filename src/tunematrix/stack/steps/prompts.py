"""Prompts and answers, as texts and as tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Prompt:
    """One prompt.

    Attributes:
        ids: its tokens, with the mark that its tokenizer begins texts with, if any.
    """

    text: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class PromptAnswer:
    """What a model goes on with.

    Attributes:
        tokens: new ones, the end token included if it came.
        text: without that token; ended: whether it came.
    """

    prompt: Prompt
    tokens: tuple[int, ...]
    text: str
    ended: bool


def tokenized(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """Return a prompt's tokens; an end that the tokenizer puts there by itself is left out."""
    ids: list[int] = tokenizer(text)["input_ids"]
    plain: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    added_end = len(ids) > len(plain) and ids[-1] == tokenizer.eos_token_id
    return tuple(ids[:-1] if added_end and ids[-1:] != plain[-1:] else ids)


def answer_of(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, answer: Sequence[int]) -> str:
    """Return the text that follows the prompt's.

    Taken from both together, since many tokenizers drop the space that a text begins with.
    """
    begun, whole = (_decoded(tokenizer, ids) for ids in (prompt.ids, (*prompt.ids, *answer)))
    return whole[len(begun) :] if whole.startswith(begun) else _decoded(tokenizer, answer)


def _decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    plain = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    return str(tokenizer.decode([*ids], **plain))
