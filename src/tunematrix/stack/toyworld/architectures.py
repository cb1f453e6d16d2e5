"""Small models of other architectures: a name in, a configuration of transformers' own out.

They know nothing; what they are for is where weights lie and how they are used: biases, tied and
untied heads, fused and transposed projections, absolute positions, windows, shared keys, experts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import transformers
from transformers import PretrainedConfig

from tunematrix.stack.toyworld import tokenizer

VOCABULARY_SIZE = 256  # the tokenizer's, rounded up to a multiple of quantization groups

_HIDDEN, _INNER, _LAYERS, _HEADS = 64, 128, 2, 4
_COMMON: Mapping[str, Any] = {
    "vocab_size": VOCABULARY_SIZE,
    # With the usual 0.02 all logits of so small a model are nearly equal.
    "initializer_range": 0.08,
    "bos_token_id": None,
    "eos_token_id": tokenizer.SPECIAL_TOKENS.index(tokenizer.EOS),
    "pad_token_id": tokenizer.SPECIAL_TOKENS.index(tokenizer.PAD),
    "dtype": "float32",
}
_DECODER: Mapping[str, Any] = {
    **_COMMON,
    "hidden_size": _HIDDEN,
    "intermediate_size": _INNER,
    "num_hidden_layers": _LAYERS,
    "num_attention_heads": _HEADS,
    "num_key_value_heads": _HEADS // 2,
    "max_position_embeddings": tokenizer.LONGEST_TEXT,
}


def configuration(name: str) -> PretrainedConfig:
    """Describe the model of a name in `NAMES`.

    Raises:
        KeyError: another name.
        ValueError: this release of transformers doesn't know the architecture.
    """
    kind, model, settings = _KINDS[name]
    return configuration_class(kind)(architectures=[model], **settings)


def configuration_class(name: str) -> Callable[..., PretrainedConfig]:
    """Return a configuration class of transformers.

    Raises:
        ValueError: this release has none of that name.
    """
    found: Callable[..., PretrainedConfig] | None = getattr(transformers, name, None)
    if found is None:
        message = f"transformers {version('transformers')} knows no {name}"
        raise ValueError(message)
    return found


_KINDS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "qwen": ("Qwen2Config", "Qwen2ForCausalLM", {**_DECODER, "tie_word_embeddings": True}),
    "gemma": (
        "Gemma3TextConfig",
        "Gemma3ForCausalLM",
        {
            **_DECODER,
            "head_dim": 32,
            "query_pre_attn_scalar": 32,
            "sliding_window": 64,
            "sliding_window_pattern": 2,  # the first layer looks through a window, the second not
        },
    ),
    "gpt2": (
        "GPT2Config",
        "GPT2LMHeadModel",
        {
            **_COMMON,
            "n_embd": _HIDDEN,
            "n_inner": 4 * _HIDDEN,
            "n_layer": _LAYERS,
            "n_head": _HEADS,
            "n_positions": tokenizer.LONGEST_TEXT,
            "resid_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
        },
    ),
    "moe": (
        "Qwen3MoeConfig",
        "Qwen3MoeForCausalLM",
        {
            **_DECODER,
            "head_dim": 32,
            "moe_intermediate_size": 64,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            # TRL adds the routers' own loss wherever this isn't 0, whatever the config returns.
            "router_aux_loss_coef": 0.0,
            "tie_word_embeddings": False,
        },
    ),
    "phi3": ("Phi3Config", "Phi3ForCausalLM", {**_DECODER, "tie_word_embeddings": False}),
    "untied": ("LlamaConfig", "LlamaForCausalLM", {**_DECODER, "tie_word_embeddings": False}),
}
NAMES = tuple(_KINDS)
