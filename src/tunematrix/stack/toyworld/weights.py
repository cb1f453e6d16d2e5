"""Weights of a model that was never trained: a configuration in, tensors by their names out.

Names and shapes are those of checkpoints as they are published, which each release of an engine
renames and puts together as it likes. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PretrainedConfig

Named = Iterator[tuple[str, tuple[int, ...]]]

_ADD_ONE = ("gemma3_text",)
"""Types of models whose norms add 1 to their weight."""


def draw(
    config: PretrainedConfig, seed: int, spread: float = 0.0
) -> dict[str, NDArray[np.float32]]:
    """Draw every tensor of a checkpoint, the same ones on every machine.

    Args:
        config: whose `initializer_range` is the standard deviation of matrices and of biases.
        seed: of all that is drawn.
        spread: the standard deviation of a norm's weights around the one that changes nothing.
            Where all are alike, nothing would show that two norms are confused.
    """
    generator = np.random.default_rng(seed)
    level = 0.0 if config.model_type in _ADD_ONE else 1.0
    weights = {}
    for name, shape in shapes(config):
        if _is_norm(name):
            drawn = generator.standard_normal(shape, np.float32) if spread else np.float32(0.0)
            weights[name] = np.full(shape, level, np.float32) + np.float32(spread) * drawn
        else:
            drawn = generator.standard_normal(shape, np.float32)
            weights[name] = drawn * np.float32(config.initializer_range)
    return weights


def shapes(config: PretrainedConfig) -> Named:
    """Yield name and shape of every tensor on disk; a tied output layer isn't among them."""
    if config.model_type == "gpt2":
        return _gpt2(config)
    return _decoder(config)


def head_size(config: PretrainedConfig) -> int:
    """Return the width of an attention head, which may be told apart from the model's own."""
    told: int | None = getattr(config, "head_dim", None)
    width: int = config.hidden_size // config.num_attention_heads
    return width if told is None else told


def _is_norm(name: str) -> bool:
    module = name.removesuffix(".weight").rpartition(".")[2]
    return module.endswith("norm") or (module.startswith("ln_") and name.endswith(".weight"))


def _decoder(config: PretrainedConfig) -> Named:
    hidden = config.hidden_size
    yield "model.embed_tokens.weight", (config.vocab_size, hidden)
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}."
        for part in (_attention(config), _feed_forward(config), _norms(config)):
            yield from ((prefix + name, shape) for name, shape in part)
    yield "model.norm.weight", (hidden,)
    if not config.tie_word_embeddings:
        yield "lm_head.weight", (config.vocab_size, hidden)


def _attention(config: PretrainedConfig) -> Named:
    hidden, head = config.hidden_size, head_size(config)
    queries, keys = config.num_attention_heads * head, config.num_key_value_heads * head
    widths = {"q_proj": queries, "k_proj": keys, "v_proj": keys}
    if config.model_type == "phi3":
        widths = {"qkv_proj": queries + 2 * keys}
    for projection, width in widths.items():
        yield f"self_attn.{projection}.weight", (width, hidden)
        if config.model_type == "qwen2":
            yield f"self_attn.{projection}.bias", (width,)
    yield "self_attn.o_proj.weight", (hidden, queries)
    if config.model_type in ("gemma3_text", "qwen3_moe"):
        yield "self_attn.q_norm.weight", (head,)
        yield "self_attn.k_norm.weight", (head,)


def _feed_forward(config: PretrainedConfig) -> Named:
    hidden, inner = config.hidden_size, config.intermediate_size
    if config.model_type == "qwen3_moe":
        yield "mlp.gate.weight", (config.num_experts, hidden)
        for expert in range(config.num_experts):
            yield from _gated(f"mlp.experts.{expert}.", hidden, config.moe_intermediate_size)
    elif config.model_type == "phi3":
        yield "mlp.gate_up_proj.weight", (2 * inner, hidden)
        yield "mlp.down_proj.weight", (hidden, inner)
    else:
        yield from _gated("mlp.", hidden, inner)


def _gated(prefix: str, hidden: int, inner: int) -> Named:
    yield f"{prefix}gate_proj.weight", (inner, hidden)
    yield f"{prefix}up_proj.weight", (inner, hidden)
    yield f"{prefix}down_proj.weight", (hidden, inner)


def _norms(config: PretrainedConfig) -> Named:
    yield "input_layernorm.weight", (config.hidden_size,)
    yield "post_attention_layernorm.weight", (config.hidden_size,)
    if config.model_type == "gemma3_text":
        yield "pre_feedforward_layernorm.weight", (config.hidden_size,)
        yield "post_feedforward_layernorm.weight", (config.hidden_size,)


def _gpt2(config: Any) -> Named:
    hidden, inner = config.n_embd, config.n_inner
    yield "transformer.wte.weight", (config.vocab_size, hidden)
    yield "transformer.wpe.weight", (config.n_positions, hidden)
    # Conv1D keeps its matrices the other way round: inputs first.
    layers = {
        "attn.c_attn": (hidden, 3 * hidden),
        "attn.c_proj": (hidden, hidden),
        "mlp.c_fc": (hidden, inner),
        "mlp.c_proj": (inner, hidden),
    }
    for layer in range(config.n_layer):
        prefix = f"transformer.h.{layer}."
        for name, shape in layers.items():
            yield f"{prefix}{name}.weight", shape
            yield f"{prefix}{name}.bias", shape[1:]
        for norm in ("ln_1", "ln_2"):
            yield from _layer_norm(f"{prefix}{norm}", hidden)
    yield from _layer_norm("transformer.ln_f", hidden)


def _layer_norm(name: str, hidden: int) -> Named:
    yield f"{name}.weight", (hidden,)
    yield f"{name}.bias", (hidden,)
