"""Prompts → tokens, through transformers' own generation and by the definition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunematrix.stack.engines.common import Sampling
from tunematrix.stack.engines.torch.scoring import evaluating


def generate(
    model: PreTrainedModel,
    prompt: Sequence[int],
    sampling: Sampling,
    tokenizer: PreTrainedTokenizerBase,
    device: str,
) -> list[int]:
    """Continue `prompt`; return the new tokens, the end token included if it came.

    Without a cache, each token is drawn here from a whole pass. Both draw the same under one seed.
    """
    torch.manual_seed(sampling.seed)
    ids = torch.tensor([prompt], device=device)
    with evaluating(model), torch.no_grad():
        if not sampling.cache:
            return list(_by_definition(model, ids, sampling, int(tokenizer.eos_token_id)))
        chosen = (
            {"do_sample": True, "temperature": sampling.temperature, "top_k": 0, "top_p": 1.0}
            if sampling.temperature
            else {"do_sample": False}
        )
        found = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=sampling.most,
            use_cache=True,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            **chosen,
        )
    tokens: list[int] = found[0, len(prompt) :].tolist()
    return tokens


def _by_definition(
    model: PreTrainedModel, ids: torch.Tensor, sampling: Sampling, end: int
) -> Iterator[int]:
    """Yield the likeliest token of each pass, or one drawn by softmax(logits / temperature)."""
    for _ in range(sampling.most):
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, -1].float()
        if sampling.temperature:
            scores = logits / sampling.temperature
            odds = (scores - scores.logsumexp(dim=-1, keepdim=True)).exp()
            token = torch.multinomial(odds, num_samples=1)
        else:
            token = logits.argmax(dim=-1, keepdim=True)
        yield int(token)
        if int(token) == end:
            return
        ids = torch.cat([ids, token], dim=1)
