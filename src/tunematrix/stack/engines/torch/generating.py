"""Prompts → tokens, through transformers' own generation and by the definition."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunematrix.stack.engines.common import Sampling
from tunematrix.stack.engines.torch.scoring import evaluating

Scored = tuple[list[int], torch.Tensor]
"""New tokens, and the scores by which the library took each, (tokens, vocabulary)."""


@dataclass(frozen=True)
class Decoder:
    """Continues prompts with a model.

    Attributes:
        tokenizer: the checkpoint's; device: PyTorch's name of it.
        alone: whether a pass may hold one text only, since others would change what it computes.
        more_ends: tokens that end a text beside the tokenizer's own.
    """

    tokenizer: PreTrainedTokenizerBase
    device: str
    alone: bool = False
    more_ends: tuple[int, ...] = ()

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that end a text; none where neither tokenizer nor model names one."""
        own = self.tokenizer.eos_token_id
        return frozenset((*self.more_ends, *(() if own is None else (int(own),))))

    @property
    def _pad(self) -> int:
        """Stands where a text isn't; masked, so that it may be any token."""
        return int(self.tokenizer.pad_token_id or 0)

    def generate(
        self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], sampling: Sampling
    ) -> list[list[int]]:
        """Continue prompts; return each one's new tokens, the end token included if it came.

        Without a cache, each token is drawn here from a whole pass. Both draw the same under one
        seed.
        """
        way = self._through_the_library if sampling.cache else self._by_definition
        with evaluating(model), torch.no_grad():
            if not self.alone:
                return way(model, prompts, sampling)
            own = sampling.of_each(len(prompts))
            return [way(model, [ids], one)[0] for ids, one in zip(prompts, own, strict=True)]

    def likeliest(self, model: PreTrainedModel, prompt: Sequence[int], most: int) -> Scored:
        """Continue one prompt by the likeliest tokens, through the library and its cache."""
        asked = Sampling(most, temperature=0.0, seed=0, cache=True)
        return self.scored(model, [prompt], asked)[0]

    def scored(
        self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], sampling: Sampling
    ) -> list[Scored]:
        """Continue prompts through the library and its cache; say by which scores."""
        if self.alone and len(prompts) > 1:
            own = zip(prompts, sampling.of_each(len(prompts)), strict=True)
            return [self.scored(model, [ids], one)[0] for ids, one in own]
        with evaluating(model), torch.no_grad():
            out = self._asked(model, prompts, sampling, output_scores=True)
        scores = torch.stack(out.scores).float()
        rows = out.sequences[:, -len(scores) :].tolist()
        texts = [_until(self.ends, row) for row in rows]
        return [(text, scores[: len(text), row]) for row, text in enumerate(texts)]

    def _through_the_library(
        self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], sampling: Sampling
    ) -> list[list[int]]:
        """Continue all prompts side by side, the shorter ones padded on their left."""
        whole = self._asked(model, prompts, sampling).sequences
        rows: list[list[int]] = whole[:, max(map(len, prompts)) :].tolist()
        return [_until(self.ends, row) for row in rows]

    def _asked(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        **more: bool,
    ) -> Any:
        """Return what the library gives for prompts side by side."""
        pad = self._pad
        width = max(map(len, prompts))
        padded = [[pad] * (width - len(ids)) + [*ids] for ids in prompts]
        mask = [[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts]
        chosen = (
            {"do_sample": True, "temperature": sampling.temperature, "top_k": 0, "top_p": 1.0}
            if sampling.temperature
            else {"do_sample": False}
        )
        torch.manual_seed(sampling.seed)
        return model.generate(
            input_ids=torch.tensor(padded, device=self.device),
            attention_mask=torch.tensor(mask, device=self.device),
            max_new_tokens=sampling.most,
            use_cache=True,
            pad_token_id=pad,
            eos_token_id=sorted(self.ends) or None,
            return_dict_in_generate=True,
            **chosen,
            **more,
        )

    def _by_definition(
        self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], sampling: Sampling
    ) -> list[list[int]]:
        """Continue all prompts by whole passes, those left out that have come to their end.

        What is on the right of a text is nothing that its own positions see.
        """
        ends, pad = self.ends, self._pad
        texts, going = [[*ids] for ids in prompts], list(range(len(prompts)))
        draws = torch.Generator(self.device).manual_seed(sampling.seed)
        for _ in range(sampling.most):
            width = max(len(texts[row]) for row in going)
            padded = [texts[row] + [pad] * (width - len(texts[row])) for row in going]
            ids = torch.tensor(padded, device=self.device)
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
            # The library draws for texts that have ended as well.
            scores = logits.new_zeros(len(texts), logits.shape[-1], dtype=torch.float32)
            last = [len(texts[row]) - 1 for row in going]
            scores[going] = logits[range(len(going)), last].float()
            chosen = _choose(scores, sampling.temperature, draws)
            for row in going:
                texts[row].append(chosen[row])
            going = [row for row in going if chosen[row] not in ends]
            if not going:
                break
        return [text[len(ids) :] for text, ids in zip(texts, prompts, strict=True)]


def _until(ends: Set[int], row: Sequence[int]) -> list[int]:
    """Return the tokens up to the first of `ends`, which is one of them."""
    last = next((place for place, token in enumerate(row) if token in ends), len(row))
    return [*row[: last + 1]]


def _choose(logits: torch.Tensor, temperature: float, draws: torch.Generator) -> list[int]:
    """Return each row's likeliest token, or one drawn by softmax(logits / temperature)."""
    if not temperature:
        chosen: list[int] = logits.argmax(dim=-1).tolist()
        return chosen
    scores = logits / temperature
    odds = (scores - scores.logsumexp(dim=-1, keepdim=True)).exp()
    drawn: list[int] = torch.multinomial(odds, num_samples=1, generator=draws).flatten().tolist()
    return drawn
