"""Llama by its definition, in float64: weights and tokens in, logits and losses out.

What every engine is held against, so it owes nothing to any of them: one sequence at a time,
without padding, masks, caches or kernels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, silu
from transformers import LlamaConfig

from tunematrix.stack.engines.examples import Example

Weights = Mapping[str, Tensor]
"""Parameters by their names in the checkpoint; the output layer is the embedding."""


def logits(weights: Weights, config: LlamaConfig, ids: Sequence[int]) -> Tensor:
    """Return logits, (positions, vocabulary)."""
    x = weights["model.embed_tokens.weight"][torch.tensor(ids)]
    for layer in range(config.num_hidden_layers):
        own = _below(weights, f"model.layers.{layer}.")
        x = x + _attention(own, config, _normed(x, own["input_layernorm.weight"], config))
        x = x + _feed_forward(own, _normed(x, own["post_attention_layernorm.weight"], config))
    return _normed(x, weights["model.norm.weight"], config) @ weights["model.embed_tokens.weight"].T


def mean_nats(weights: Weights, config: LlamaConfig, examples: Sequence[Example]) -> Tensor:
    """Return the mean cross-entropy over all counted tokens; a row's first is never predicted."""
    total, tokens = torch.zeros((), dtype=torch.float64), 0
    for example in examples:
        counted = torch.tensor(example.counted[1:])
        predicted = logits(weights, config, example.ids)[:-1][counted]
        wanted = torch.tensor(example.ids[1:])[counted]
        total = total + cross_entropy(predicted, wanted, reduction="sum")
        tokens += len(wanted)
    return total / tokens


def gradients(
    weights: Weights, config: LlamaConfig, examples: Sequence[Example]
) -> dict[str, Tensor]:
    """Return the gradient of the mean nats by parameter."""
    leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
    found = torch.autograd.grad(mean_nats(leaves, config, examples), list(leaves.values()))
    return dict(zip(leaves, found, strict=True))


def descend(
    weights: Weights, config: LlamaConfig, batches: Sequence[Sequence[Example]], rate: float
) -> list[float]:
    """Follow the gradient, a step a batch; return each batch's mean nats before its step."""
    losses = []
    for examples in batches:
        losses.append(float(mean_nats(weights, config, examples)))
        slopes = gradients(weights, config, examples)
        weights = {name: weight - rate * slopes[name] for name, weight in weights.items()}
    return losses


def _below(weights: Weights, prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}


def _normed(x: Tensor, weight: Tensor, config: LlamaConfig) -> Tensor:
    return weight * x / torch.sqrt(x.square().mean(-1, keepdim=True) + config.rms_norm_eps)


def _attention(own: Weights, config: LlamaConfig, x: Tensor) -> Tensor:
    def heads(name: str) -> Tensor:
        projected = x @ own[f"self_attn.{name}.weight"].T
        return projected.unflatten(-1, (config.num_attention_heads, -1)).transpose(0, 1)

    queries, keys, values = (heads(name) for name in ("q_proj", "k_proj", "v_proj"))
    theta = config.rope_parameters["rope_theta"]
    scores = _turned(queries, theta) @ _turned(keys, theta).mT / math.sqrt(queries.shape[-1])
    future = torch.ones(len(x), len(x)).triu(1).bool()
    seen = scores.masked_fill(future, -math.inf).softmax(-1) @ values
    return seen.transpose(0, 1).flatten(1) @ own["self_attn.o_proj.weight"].T


def _turned(heads: Tensor, theta: float) -> Tensor:
    """Turn each pair of (first half, second half) by its position times its frequency."""
    positions, width = heads.shape[-2:]
    frequencies = theta ** (-torch.arange(0, width, 2, dtype=heads.dtype) / width)
    angles = torch.outer(torch.arange(positions, dtype=heads.dtype), frequencies)
    first, second = heads.chunk(2, -1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def _feed_forward(own: Weights, x: Tensor) -> Tensor:
    gate, up = (x @ own[f"mlp.{name}_proj.weight"].T for name in ("gate", "up"))
    return (silu(gate) * up) @ own["mlp.down_proj.weight"].T
