"""Prompts → tokens, through mlx-lm's own stepping and sampling."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import mlx.core as mx
from mlx import nn
from mlx_lm.generate import generate_step
from mlx_lm.sample_utils import make_sampler

from tunematrix.stack.engines.common import Sampling
from tunematrix.stack.engines.mlx.scoring import evaluating

Sampler = Callable[[mx.array], mx.array]
"""Takes log-probabilities, (rows, vocabulary), and chooses a token of each row."""


def generate(model: nn.Module, prompt: Sequence[int], sampling: Sampling, end: int) -> list[int]:
    """Continue `prompt` up to the token `end`, which is returned as well if it came."""
    mx.random.seed(sampling.seed)
    sampler = make_sampler(temp=sampling.temperature)
    tokens: Iterator[int]
    if sampling.cache:
        stepped = generate_step(mx.array(prompt), model, max_tokens=sampling.most, sampler=sampler)
        tokens = (token for token, _ in stepped)
    else:
        tokens = _recompute(model, prompt, sampler, sampling.most)
    found: list[int] = []
    with evaluating(model):
        for token in tokens:
            found.append(token)
            if token == end:
                break
    return found


def _recompute(
    model: nn.Module, prompt: Sequence[int], sampler: Sampler, most: int
) -> Iterator[int]:
    """Yield tokens from whole passes: mlx-lm's own stepping can't do without its cache."""
    ids = list(prompt)
    for _ in range(most):
        logits = model(mx.array([ids]))[:, -1]
        ids.append(sampler(logits - mx.logsumexp(logits, keepdims=True)).item())
        yield ids[-1]
