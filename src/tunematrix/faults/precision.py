"""Faults in the dtypes that training computes in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTuner
from torch.nn import functional
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import TrainingArguments
from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding
from trl.trainer import utils

from tunematrix.configuration import Configuration
from tunematrix.faults.catalogue import fault

HALF = torch.bfloat16
MIXED = ("bf16[*-lora-none-bf16]", "full-precision[*-full-bf16]")


@fault("precision", replaces=(TrainingArguments, "__post_init__"), seen_by=MIXED)
def half_precision_ignored(original: Any, arguments: Any) -> None:
    """Compute in float32, though bfloat16 was asked for.

    Stands for mixed precision that is set up and never entered (hao-ai-lab/FastVideo#166).
    """
    arguments.bf16 = arguments.fp16 = False
    original(arguments)


@fault("precision", replaces=(TrainingArguments, "__post_init__"))
def half_precision_unasked(original: Any, arguments: Any) -> None:
    """Compute in bfloat16, though nobody asked for it.

    Stands for mixed precision that a launcher's own configuration, or the environment, switches on.
    """
    arguments.bf16 = not arguments.fp16
    original(arguments)


@fault(
    "precision",
    replaces=(functional, "scaled_dot_product_attention"),
    seen_by=("lora[*-lora-none]", "full[*-full-none]", "parity[*]"),
    subtle=True,
)
def attention_in_bfloat16(original: Any, query: Any, key: Any, value: Any, **settings: Any) -> Any:
    """Let attention alone compute in bfloat16; what enters and leaves it is float32.

    Stands for fused attention that knows half precision only, and casts what it gets.
    """
    lowered = (tensor.to(HALF) for tensor in (query, key, value))
    mask = settings.get("attn_mask")
    if mask is not None and mask.is_floating_point():
        settings["attn_mask"] = mask.to(HALF)
    return original(*lowered, **settings).to(query.dtype)


@fault(
    "precision",
    replaces=(LlamaRotaryEmbedding, "forward"),
    seen_by=("lora[*-lora-none]", "full[*-full-none]", "parity[*]"),
    subtle=True,
)
def positions_in_bfloat16(original: Any, rotary: Any, *args: Any, **kwargs: Any) -> Any:
    """Round the rotary embedding's angles to bfloat16.

    Stands for buffers that are cast along with a model (huggingface/transformers#25681,
    huggingface/transformers#29285).
    """
    return tuple(part.to(HALF).to(part.dtype) for part in original(rotary, *args, **kwargs))


@fault(
    "precision",
    replaces=(LlamaRMSNorm, "forward"),
    seen_by=("lora[*-lora-none]", "full[*-full-none]", "parity[*]"),
    subtle=True,
)
def norms_in_bfloat16(_original: Any, norm: Any, states: torch.Tensor) -> torch.Tensor:
    """Take the mean square of a norm in bfloat16.

    Stands for norms that aren't lifted to float32, as each definition of RMSNorm does.
    """
    spread = states.to(HALF).pow(2).mean(-1, keepdim=True)
    scale = torch.rsqrt(spread + norm.variance_epsilon).to(states.dtype)
    scaled: torch.Tensor = norm.weight * (states * scale)
    return scaled


@fault("precision", replaces=(utils._ChunkedLogProbFunction, "apply"), subtle=True)
def loss_in_bfloat16(original: Any, states: Any, weight: Any, *more: Any) -> Any:
    """Round the hidden states and the head that the loss is computed from.

    Stands for cross-entropies that nobody lifts to float32 (Modalities/modalities#464).
    """
    rounded = (tensor.to(HALF).to(tensor.dtype) for tensor in (states, weight))
    return original(*rounded, *more)


@fault("precision", fitted=True, subtle=True)
def weights_rounded_after_each_step(config: Configuration) -> Iterator[None]:
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


@fault(
    "precision",
    replaces=(BaseTuner, "_cast_adapter_dtype"),
    seen_by=("bf16[*-lora-none-bf16]", "bf16[*-dora-none-bf16]"),
)
def adapters_follow_the_base(_original: Any, *_: Any, **__: Any) -> Any:
    """Leave adapters in the dtype of a half-precision base.

    Stands for huggingface/peft#2889: PEFT lifts them only where it is left to.
    """
    return None
