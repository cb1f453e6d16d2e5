"""Prompts → answers as texts and tokens, in batches; and the same prompts asked in other ways."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from tunematrix.stack.engines.common import Sampling
from tunematrix.stack.engines.torch.generating import Decoder
from tunematrix.stack.engines.torch.scoring import evaluating

SEEDS_APART = 1_000_000
"""Each batch draws with a seed of its own, or equal prompts would get equal answers."""
_SEEDS = 2**63
_ENDS = ("bos_token_id", "eos_token_id", "pad_token_id")
_UNFOLLOWED = (
    "do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p", "num_beams",
    "repetition_penalty", "no_repeat_ngram_size", "length_penalty", "suppress_tokens",
    "begin_suppress_tokens", "bad_words_ids", "forced_bos_token_id", "forced_eos_token_id",
)  # fmt: skip


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


def settle(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Let nothing decide how answers are chosen but what is asked for.

    Returns:
        Settings of the model's generation_config that aren't followed from here on.
    """
    own = model.generation_config
    given: dict[str, Any] = {} if own is None else own.to_diff_dict()
    kept = {name: given[name] for name in _ENDS if given.get(name) is not None}
    if tokenizer.pad_token_id is not None:
        kept["pad_token_id"] = tokenizer.pad_token_id
    model.generation_config = GenerationConfig(**kept)
    return tuple(f"{name}={given[name]}" for name in _UNFOLLOWED if name in given)


def decoder_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, device: str) -> Decoder:
    """Return what continues prompts with a model, to any of the tokens that it ends texts with."""
    ends = getattr(model.generation_config, "eos_token_id", None)
    more = (ends,) if isinstance(ends, int) else tuple(ends or ())
    return Decoder(tokenizer, device, more_ends=more)


@dataclass(frozen=True)
class Asking:
    """A model that answers prompts.

    Attributes:
        batch: prompts that are answered together at most.
    """

    model: nn.Module
    decoder: Decoder
    batch: int

    def answers(
        self, prompts: Sequence[Prompt], sampling: Sampling
    ) -> Iterator[list[PromptAnswer]]:
        """Yield the answers of one batch after the other."""
        for start in range(0, len(prompts), self.batch):
            asked = prompts[start : start + self.batch]
            seed = (sampling.seed * SEEDS_APART + start) % _SEEDS
            rows = self.decoder.generate(
                cast("PreTrainedModel", self.model),
                [prompt.ids for prompt in asked],
                replace(sampling, seed=seed),
            )
            yield [self._answer(prompt, row) for prompt, row in zip(asked, rows, strict=True)]

    def likeliest(self, prompts: Sequence[Prompt], most: int) -> list[list[int]]:
        """Return the tokens of each prompt's likeliest answer, asked in batches."""
        greedy = Sampling(most, temperature=0.0, seed=0, cache=True)
        return [[*answer.tokens] for batch in self.answers(prompts, greedy) for answer in batch]

    def _answer(self, prompt: Prompt, row: Sequence[int]) -> PromptAnswer:
        text = answer_of(self.decoder.tokenizer, prompt, row)
        return PromptAnswer(prompt, tuple(row), text, bool(row) and row[-1] in self.decoder.ends)


def logits(model: nn.Module, ids: Sequence[int], device: str, last: int) -> torch.Tensor:
    """Return float32 logits of one whole pass at the last positions, (positions, vocabulary)."""
    whole = torch.tensor([[*ids]], device=device)
    with evaluating(model), torch.no_grad():
        out = model(input_ids=whole, attention_mask=torch.ones_like(whole), use_cache=False)
        found: torch.Tensor = out.logits[0, -last:].float()
        return found
