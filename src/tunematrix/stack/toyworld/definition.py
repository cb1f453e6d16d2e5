"""Each architecture by its definition, in float64: weights and tokens in, logits and losses out.

What every engine is held against, so it owes nothing to any of them: one sequence at a time,
without padding, masks of theirs, caches or kernels. Each formula is written out from the paper or
the model card that introduced it:

- Llama: RMSNorm (arXiv:1910.07467), rotary positions (2104.09864), SwiGLU (2002.05202), and
  keys and values that heads share (2305.13245);
- Qwen2 (2407.10671): biases on queries, keys and values;
- Gemma 3 (2503.19786): scaled embeddings, norms that add 1 to their weight, before and after each
  part and on queries and keys, windows, and GELU by its approximation with tanh (1606.08415);
- GPT-2 ("Language models are unsupervised multitask learners"): LayerNorm first, learned positions;
- Qwen3-MoE (2505.09388): norms on queries and keys, each token's two best experts of four;
- Phi-3 (2404.14219): Llama with matrices put together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PretrainedConfig

from tunematrix.stack.engines.examples import Example
from tunematrix.stack.toyworld.weights import head_size

Weights = Mapping[str, Tensor]
"""Parameters by their names in the checkpoint; a tied output layer is the embedding."""

Forward = Callable[[Weights, Any, Tensor], Tensor]


def logits(weights: Weights, config: PretrainedConfig, ids: Sequence[int]) -> Tensor:
    """Return logits, (positions, vocabulary)."""
    forward = _FORWARD.get(config.model_type, _decoder)
    return forward(weights, config, torch.tensor(ids))


def mean_nats(weights: Weights, config: PretrainedConfig, examples: Sequence[Example]) -> Tensor:
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
    weights: Weights, config: PretrainedConfig, examples: Sequence[Example]
) -> dict[str, Tensor]:
    """Return the gradient of the mean nats by parameter."""
    leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
    found = torch.autograd.grad(mean_nats(leaves, config, examples), list(leaves.values()))
    return dict(zip(leaves, found, strict=True))


def descend(
    weights: Weights, config: PretrainedConfig, batches: Sequence[Sequence[Example]], rate: float
) -> list[float]:
    """Follow the gradient, a step a batch; return each batch's mean nats before its step."""
    losses = []
    for examples in batches:
        losses.append(float(mean_nats(weights, config, examples)))
        slopes = gradients(weights, config, examples)
        weights = {name: weight - rate * slopes[name] for name, weight in weights.items()}
    return losses


def _decoder(weights: Weights, config: Any, ids: Tensor) -> Tensor:
    x = weights["model.embed_tokens.weight"][ids]
    for layer in range(config.num_hidden_layers):
        own = _below(weights, f"model.layers.{layer}.")
        x = x + _attention(own, config, _rms(x, own["input_layernorm.weight"], config))
        x = x + _feed_forward(own, config, _rms(x, own["post_attention_layernorm.weight"], config))
    head = weights.get("lm_head.weight", weights["model.embed_tokens.weight"])
    return _rms(x, weights["model.norm.weight"], config) @ head.T


def _gemma(weights: Weights, config: Any, ids: Tensor) -> Tensor:
    embeddings = weights["model.embed_tokens.weight"]
    x = embeddings[ids] * math.sqrt(config.hidden_size)
    for layer, kind in enumerate(config.layer_types):
        own = _below(weights, f"model.layers.{layer}.")

        def norm(x: Tensor, name: str, own: Weights = own) -> Tensor:
            return _rms(x, 1 + own[f"{name}_layernorm.weight"], config)

        looked = _attention(own, config, norm(x, "input"), kind)
        x = x + norm(looked, "post_attention")
        x = x + norm(_feed_forward(own, config, norm(x, "pre_feedforward")), "post_feedforward")
    return _rms(x, 1 + weights["model.norm.weight"], config) @ embeddings.T


def _gpt2(weights: Weights, config: Any, ids: Tensor) -> Tensor:
    own = _below(weights, "transformer.")
    x = own["wte.weight"][ids] + own["wpe.weight"][: len(ids)]
    for layer in range(config.n_layer):
        part = _below(own, f"h.{layer}.")
        x = x + _fused_attention(part, config, _layer_norm(x, _below(part, "ln_1."), config))
        inner = _affine(_layer_norm(x, _below(part, "ln_2."), config), _below(part, "mlp.c_fc."))
        x = x + _affine(_gelu(inner), _below(part, "mlp.c_proj."))
    return _layer_norm(x, _below(own, "ln_f."), config) @ own["wte.weight"].T


_FORWARD: Mapping[str, Forward] = {"gemma3_text": _gemma, "gpt2": _gpt2}


def _below(weights: Weights, prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}


def _rms(x: Tensor, weight: Tensor, config: Any) -> Tensor:
    return weight * x / torch.sqrt(x.square().mean(-1, keepdim=True) + config.rms_norm_eps)


def _layer_norm(x: Tensor, own: Weights, config: Any) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    deviation = torch.sqrt(centred.square().mean(-1, keepdim=True) + config.layer_norm_epsilon)
    return own["weight"] * centred / deviation + own["bias"]


def _affine(x: Tensor, own: Weights) -> Tensor:
    """Apply a matrix that is kept inputs first, as GPT-2's are."""
    return x @ own["weight"] + own["bias"]


def _gelu(x: Tensor) -> Tensor:
    return x / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def _attention(own: Weights, config: Any, x: Tensor, kind: str = "full_attention") -> Tensor:
    head = head_size(config)
    queries, keys, values = (
        part.unflatten(-1, (-1, head)).transpose(0, 1) for part in _projected(own, config, x)
    )
    if "self_attn.q_norm.weight" in own:
        level = 1 if config.model_type == "gemma3_text" else 0
        queries = _rms(queries, level + own["self_attn.q_norm.weight"], config)
        keys = _rms(keys, level + own["self_attn.k_norm.weight"], config)
    base = config.rope_parameters.get(kind, config.rope_parameters)["rope_theta"]
    queries, keys = _turned(queries, base), _turned(keys, base)
    shared = len(queries) // len(keys)
    scale = math.sqrt(getattr(config, "query_pre_attn_scalar", head))
    window = config.sliding_window if kind == "sliding_attention" else None
    seen = _look(
        queries / scale,
        torch.stack([keys[query // shared] for query in range(len(queries))]),
        torch.stack([values[query // shared] for query in range(len(queries))]),
        window,
    )
    return seen @ own["self_attn.o_proj.weight"].T


def _projected(own: Weights, config: Any, x: Tensor) -> Sequence[Tensor]:
    if "self_attn.qkv_proj.weight" in own:
        shared = config.num_key_value_heads * head_size(config)
        widths = (config.num_attention_heads * head_size(config), shared, shared)
        return (x @ own["self_attn.qkv_proj.weight"].T).split(widths, -1)
    projected = []
    for name in ("q_proj", "k_proj", "v_proj"):
        bias = own.get(f"self_attn.{name}.bias", torch.zeros((), dtype=x.dtype))
        projected.append(x @ own[f"self_attn.{name}.weight"].T + bias)
    return projected


def _fused_attention(own: Weights, config: Any, x: Tensor) -> Tensor:
    head = config.n_embd // config.n_head
    queries, keys, values = (
        part.unflatten(-1, (-1, head)).transpose(0, 1)
        for part in _affine(x, _below(own, "attn.c_attn.")).chunk(3, -1)
    )
    return _affine(_look(queries / math.sqrt(head), keys, values), _below(own, "attn.c_proj."))


def _look(queries: Tensor, keys: Tensor, values: Tensor, window: int | None = None) -> Tensor:
    """Return (positions, heads * width) of (heads, positions, width); own position included."""
    positions = torch.arange(queries.shape[-2])
    distance = positions[:, None] - positions[None, :]
    hidden = distance < 0
    if window is not None:
        hidden = hidden | (distance >= window)
    scores = (queries @ keys.mT).masked_fill(hidden, -math.inf)
    return (scores.softmax(-1) @ values).transpose(0, 1).flatten(1)


def _turned(heads: Tensor, base: float) -> Tensor:
    """Turn each pair of (first half, second half) by its position times its frequency."""
    positions, width = heads.shape[-2:]
    frequencies = base ** (-torch.arange(0, width, 2, dtype=heads.dtype) / width)
    angles = torch.outer(torch.arange(positions, dtype=heads.dtype), frequencies)
    first, second = heads.chunk(2, -1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def _feed_forward(own: Weights, config: Any, x: Tensor) -> Tensor:
    own = _below(own, "mlp.")
    if "gate.weight" in own:
        return _experts(own, config, x)
    if "gate_up_proj.weight" in own:
        gate, up = (x @ own["gate_up_proj.weight"].T).chunk(2, -1)
        return (_silu(gate) * up) @ own["down_proj.weight"].T
    return _gated(own, x, _gelu if config.model_type == "gemma3_text" else _silu)


def _gated(own: Weights, x: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
    gate, up = (x @ own[f"{name}_proj.weight"].T for name in ("gate", "up"))
    return (activation(gate) * up) @ own["down_proj.weight"].T


def _experts(own: Weights, config: Any, x: Tensor) -> Tensor:
    shares, chosen = (x @ own["gate.weight"].T).softmax(-1).topk(config.num_experts_per_tok)
    if config.norm_topk_prob:
        shares = shares / shares.sum(-1, keepdim=True)
    total = torch.zeros_like(x)
    for expert in range(config.num_experts):
        share = (shares * (chosen == expert)).sum(-1, keepdim=True)
        total = total + share * _gated(_below(own, f"experts.{expert}."), x, _silu)
    return total
