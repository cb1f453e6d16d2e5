"""Faults in the dtypes that training computes in."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTuner
from torch.nn import functional
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import TrainingArguments
from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding
from trl.trainer import utils

from tunematrix.faults.catalogue import Config, fault
from tunematrix.faults.patching import replaced

HALF = torch.bfloat16
MIXED = ("bf16[*-lora-none-bf16]", "full-precision[*-full-bf16]")


@fault("precision", seen_by=MIXED)
def half_precision_ignored(config: Config) -> Iterator[None]:
    """Compute in float32, though bfloat16 was asked for.

    Stands for mixed precision that is set up and never entered (hao-ai-lab/FastVideo#166).
    """

    def wrap(original: Any) -> Any:
        def post_init(arguments: Any) -> None:
            arguments.bf16 = arguments.fp16 = False
            original(arguments)

        return post_init

    with replaced(TrainingArguments, "__post_init__", wrap):
        yield


@fault("precision")
def half_precision_unasked(config: Config) -> Iterator[None]:
    """Compute in bfloat16, though nobody asked for it.

    Stands for mixed precision that a launcher's own configuration, or the environment, switches on.
    """

    def wrap(original: Any) -> Any:
        def post_init(arguments: Any) -> None:
            arguments.bf16 = not arguments.fp16
            original(arguments)

        return post_init

    with replaced(TrainingArguments, "__post_init__", wrap):
        yield


@fault("precision", seen_by=("lora[*-lora-none]", "full[*-full-none]", "parity[*]"))
def attention_in_bfloat16(config: Config) -> Iterator[None]:
    """Let attention alone compute in bfloat16; what enters and leaves it is float32.

    Stands for fused attention that knows half precision only, and casts what it gets.
    """

    def wrap(original: Any) -> Any:
        def attend(query: Any, key: Any, value: Any, **settings: Any) -> Any:
            lowered = (tensor.to(HALF) for tensor in (query, key, value))
            mask = settings.get("attn_mask")
            if mask is not None and mask.is_floating_point():
                settings["attn_mask"] = mask.to(HALF)
            return original(*lowered, **settings).to(query.dtype)

        return attend

    with replaced(functional, "scaled_dot_product_attention", wrap):
        yield


@fault("precision", seen_by=("lora[*-lora-none]", "full[*-full-none]", "parity[*]"))
def positions_in_bfloat16(config: Config) -> Iterator[None]:
    """Round the rotary embedding's angles to bfloat16.

    Stands for buffers that are cast along with a model (huggingface/transformers#25681,
    huggingface/transformers#29285).
    """

    def wrap(original: Any) -> Any:
        def forward(rotary: Any, *args: Any, **kwargs: Any) -> Any:
            return tuple(part.to(HALF).to(part.dtype) for part in original(rotary, *args, **kwargs))

        return forward

    with replaced(LlamaRotaryEmbedding, "forward", wrap):
        yield


@fault("precision", seen_by=("lora[*-lora-none]", "full[*-full-none]", "parity[*]"))
def norms_in_bfloat16(config: Config) -> Iterator[None]:
    """Take the mean square of a norm in bfloat16.

    Stands for norms that aren't lifted to float32, as each definition of RMSNorm does.
    """

    def wrap(original: Any) -> Any:
        def forward(norm: Any, states: torch.Tensor) -> torch.Tensor:
            spread = states.to(HALF).pow(2).mean(-1, keepdim=True)
            scale = torch.rsqrt(spread + norm.variance_epsilon).to(states.dtype)
            scaled: torch.Tensor = norm.weight * (states * scale)
            return scaled

        return forward

    with replaced(LlamaRMSNorm, "forward", wrap):
        yield


@fault("precision")
def loss_in_bfloat16(config: Config) -> Iterator[None]:
    """Round the hidden states and the head that the loss is computed from.

    Stands for cross-entropies that nobody lifts to float32 (Modalities/modalities#464).
    """

    def wrap(original: Any) -> Any:
        def apply(states: Any, weight: Any, *more: Any) -> Any:
            rounded = (tensor.to(HALF).to(tensor.dtype) for tensor in (states, weight))
            return original.apply(*rounded, *more)

        return SimpleNamespace(apply=apply)

    with replaced(utils, "_ChunkedLogProbFunction", wrap):
        yield


@fault("precision")
def weights_rounded_after_each_step(config: Config) -> Iterator[None]:
    """Round trained weights to bfloat16 after each step; they stay float32 by name.

    Stands for master weights that are taken from the lowered ones, so that small updates are lost
    (huggingface/trl#7268).
    """

    def after(optimizer: Any, *_: object) -> None:
        with torch.no_grad():
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.copy_(parameter.to(HALF))

    handle = register_optimizer_step_post_hook(after)
    try:
        yield
    finally:
        handle.remove()


@fault("precision", seen_by=("bf16[*-lora-none-bf16]", "bf16[*-dora-none-bf16]"))
def adapters_follow_the_base(config: Config) -> Iterator[None]:
    """Leave adapters in the dtype of a half-precision base.

    Stands for huggingface/peft#2889: PEFT lifts them only where it is left to.
    """
    with replaced(BaseTuner, "_cast_adapter_dtype", lambda _: lambda *_, **__: None):
        yield
