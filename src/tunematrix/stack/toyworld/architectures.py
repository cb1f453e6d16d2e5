"""Small models of other architectures: a name in, a configuration of transformers' own out.

They know nothing; what they are for is where weights lie: biases, tied and untied heads, fused
and transposed projections, absolute positions, experts in one tensor. This alone needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig

from tunematrix.stack.releases import configuration_class
from tunematrix.stack.toyworld import tokenizer

SEED = 0
VOCABULARY_SIZE = 256  # the tokenizer's, rounded up as the shipped model's is

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
_ADD_ONE = ("gemma",)
"""Architectures whose norms add 1 to their weight, and have no biases."""


def configuration(name: str) -> PretrainedConfig:
    """Describe the model of a name in `models.ARCHITECTURES`.

    Raises:
        KeyError: another name.
        ValueError: this release of transformers doesn't know the architecture.
    """
    kind, settings = _KINDS[name]
    return configuration_class(kind)(**settings)


def write(name: str, folder: Path) -> None:
    """Write the checkpoint of a name, drawn from a fixed seed, and leave torch's own as it was."""
    config = configuration(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = AutoModelForCausalLM.from_config(config)
        _draw_biases(model)
        if name in _ADD_ONE:
            level_norms(model)
    model.save_pretrained(folder)
    tokenizer.save(folder)


def level_norms(model: torch.nn.Module) -> None:
    """Have norms that add 1 to their weight multiply by 1; releases before 5 have them double."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.zero_()


def _draw_biases(model: torch.nn.Module) -> None:
    """Give biases values, or a library that drops them would change nothing."""
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith("bias"):
                parameter.normal_(0.0, _COMMON["initializer_range"])


_KINDS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "qwen": ("Qwen2Config", {**_DECODER, "tie_word_embeddings": True}),
    "gemma": (
        "Gemma3TextConfig",
        {**_DECODER, "head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 64},
    ),
    "gpt2": (
        "GPT2Config",
        {
            **_COMMON,
            "n_embd": _HIDDEN,
            "n_inner": _INNER,
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
    "phi3": ("Phi3Config", {**_DECODER, "tie_word_embeddings": False}),
    "untied": ("LlamaConfig", {**_DECODER, "tie_word_embeddings": False}),
}
