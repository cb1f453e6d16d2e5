"""Prompts → tokens, through mlx-lm's own stepping and sampling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import mlx.core as mx
from mlx import nn
from mlx_lm.generate import generate_step
from mlx_lm.sample_utils import make_sampler

from tunematrix.stack.engines.common import Sampling
from tunematrix.stack.engines.mlx.scoring import evaluating


def generate(model: nn.Module, prompt: Sequence[int], sampling: Sampling, end: int) -> list[int]:
    """Continue `prompt` up to the token `end`, which is returned as well if it came."""
    mx.random.seed(sampling.seed)
    sampler = make_sampler(temp=sampling.temperature)
    tokens: Iterator[int]
    if sampling.cache:
        stepped = generate_step(mx.array(prompt), model, max_tokens=sampling.most, sampler=sampler)
        tokens = (token for token, _ in stepped)
    else:
        tokens = _by_definition(model, prompt, sampling)
    found: list[int] = []
    with evaluating(model):
        for token in tokens:
            found.append(token)
            if token == end:
                break
    return found


def _by_definition(model: nn.Module, prompt: Sequence[int], sampling: Sampling) -> Iterator[int]:
    """Yield the likeliest token of each whole pass, or one drawn by softmax(logits / temperature).

    mlx-lm's own stepping can't do without its cache, and draws the same under one seed.
    """
    ids = list(prompt)
    for _ in range(sampling.most):
        logits = model(mx.array([ids]))[:, -1]
        if sampling.temperature:
            ids.append(mx.random.categorical(logits / sampling.temperature).item())
        else:
            ids.append(mx.argmax(logits, axis=-1).item())
        yield ids[-1]
