"""Faults in what a quantized base has beside its weights: norms, positions, scales and offsets.

Only what is loaded has them, and not the original that its logits are compared with.
"""

from __future__ import annotations

from typing import Any

import torch
from bitsandbytes import functional
from hqq.core.quantize import HQQLinear
from torchao.quantization import quant_api
from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding

from tunematrix.faults.catalogue import fault
from tunematrix.stack.engines.torch import Engine

HALF = torch.bfloat16
BF16 = ("bf16[*-lora-none-bf16]",)
FOUR_BITS = ("lora[*-lora-bnb-nf4]", "lora[*-lora-hqq-int4]")


@fault("precision", replaces=(Engine, "load"), seen_by=FOUR_BITS, fitted=True)
def rotary_frequencies_rounded(original: Any, engine: Any, base: Any) -> Any:
    """Round the rotary frequencies of a quantized base to bfloat16, and keep them in float32.

    Stands for buffers that a loader casts along with the weights (huggingface/transformers#25681).
    """
    model = original(engine, base)
    for module in model.modules():
        if isinstance(module, LlamaRotaryEmbedding):
            module.inv_freq.copy_(module.inv_freq.to(HALF))
    return model


@fault("precision", replaces=(Engine, "load"), seen_by=FOUR_BITS, fitted=True)
def angles_in_bfloat16(original: Any, engine: Any, base: Any) -> Any:
    """Round the cosines and sines of a quantized base's positions to bfloat16.

    Stands for caches of angles that are built in the model's dtype
    (huggingface/transformers#29285).
    """
    model = original(engine, base)
    for module in model.modules():
        if isinstance(module, LlamaRotaryEmbedding):
            module.register_forward_hook(lambda _, __, out: tuple(_rounded(one) for one in out))
    return model


@fault("precision", replaces=(Engine, "load"), seen_by=FOUR_BITS, fitted=True)
def last_norm_in_bfloat16(original: Any, engine: Any, base: Any) -> Any:
    """Let the last norm of a quantized base give no more than bfloat16 holds.

    Stands for layers that a quantizer's loader leaves in its compute dtype.
    """
    model = original(engine, base)
    norms = [module for module in model.modules() if isinstance(module, LlamaRMSNorm)]
    norms[-1].register_forward_hook(lambda _, __, out: _rounded(out))
    return model


@fault(
    "quantizer", replaces=(HQQLinear, "quantize"), seen_by=("lora[*-lora-hqq-int4]",), fitted=True
)
def zero_points_in_bfloat16(original: Any, layer: Any, *args: Any, **kwargs: Any) -> None:
    """Round hqq's zero points to bfloat16.

    Stands for a compute dtype that is applied before the weights were quantized.
    """
    original(layer, *args, **kwargs)
    layer.meta["zero"] = _rounded(layer.meta["zero"])


@fault(
    "quantizer", replaces=(HQQLinear, "quantize"), seen_by=("lora[*-lora-hqq-int8]",), fitted=True
)
def zero_points_whole(original: Any, layer: Any, *args: Any, **kwargs: Any) -> None:
    """Round hqq's zero points to whole numbers, in 8 bits of which they aren't.

    Stands for formats that keep zero points as integers, into which a checkpoint was converted.
    """
    original(layer, *args, **kwargs)
    layer.meta["zero"] = layer.meta["zero"].round()


@fault(
    "quantizer",
    replaces=(functional, "quantize_4bit"),
    seen_by=("lora[*-lora-bnb-nf4]",),
    fitted=True,
)
def offset_of_scales_rounded(original: Any, *args: Any, **given: Any) -> Any:
    """Round the offset of bitsandbytes' quantized scales to bfloat16: all scales are off by it.

    Stands for states that are cast with the model, of which one number moves each weight.
    """
    codes, state = original(*args, **given)
    state.offset = _rounded(state.offset)
    return codes, state


@fault(
    "quantizer",
    replaces=(quant_api, "_replace_with_custom_fn_if_matches_filter"),
    seen_by=("lora[*-lora-torchao-int8]",),
    fitted=True,
)
def scales_in_bfloat16(original: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
    """Round torchao's scales to bfloat16.

    Stands for scales that follow the dtype of the weights that they were taken from.
    """
    found = original(model, *args, **kwargs)
    for parameter in model.parameters():
        if hasattr(parameter, "scale"):
            parameter.scale.copy_(_rounded(parameter.scale))
    return found


@fault("precision", replaces=(LlamaRMSNorm, "forward"), seen_by=BF16, fitted=True)
def norms_without_float32(_original: Any, norm: Any, rows: Any) -> Any:
    """Compute norms in the dtype of what enters them.

    Stands for fused kernels that leave out the cast which the definition has.
    """
    root = torch.rsqrt(rows.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon)
    return norm.weight * (rows * root)


@fault("precision", replaces=(LlamaRMSNorm, "forward"), seen_by=BF16, fitted=True)
def squares_of_norms_in_half(_original: Any, norm: Any, rows: Any) -> Any:
    """Add the squares of a norm up in the dtype of what enters it, and compute the rest in float32.

    Stands for kernels that reduce in half precision.
    """
    mean = rows.pow(2).mean(-1, keepdim=True).float()
    found = rows.float() * torch.rsqrt(mean + norm.variance_epsilon)
    return norm.weight * found.to(rows.dtype)


@fault("precision", replaces=(LlamaRotaryEmbedding, "forward"), seen_by=BF16, fitted=True)
def rotary_without_float32(_original: Any, rotary: Any, like: Any, position_ids: Any) -> Any:
    """Compute the angles of positions in the dtype of what they turn.

    Stands for huggingface/transformers#29285, and for an autocast that isn't switched off there.
    """
    places = position_ids[:, :, None].to(like.dtype)
    angles = places * rotary.inv_freq.to(like.dtype)
    turned = torch.cat((angles, angles), dim=-1)
    return turned.cos(), turned.sin()


@fault(
    "quantizer",
    replaces=(functional, "quantize_4bit"),
    seen_by=("lora[*-lora-bnb-nf4]",),
    fitted=True,
    subtle=True,
)
def last_block_of_another_scale(original: Any, *args: Any, **given: Any) -> Any:
    """Store the last block of each NF4 weight 5 % too large.

    Stands for kernels that read beyond the end of a weight.
    """
    codes, state = original(*args, **given)
    lifted = functional.dequantize_blockwise(state.absmax, state.state2) + state.offset
    lifted[-1] *= 1.05
    state.absmax, state.state2 = functional.quantize_blockwise(
        lifted - state.offset, blocksize=state.state2.blocksize
    )
    return codes, state


@fault(
    "quantizer",
    replaces=(functional, "quantize_4bit"),
    seen_by=("lora[*-lora-bnb-nf4]",),
    fitted=True,
    subtle=True,
)
def offset_of_scales_one_percent_off(original: Any, *args: Any, **given: Any) -> Any:
    """Make the offset of bitsandbytes' quantized scales 1 % larger.

    Stands for means that are taken over padding as well.
    """
    codes, state = original(*args, **given)
    state.offset = state.offset * 1.01
    return codes, state


@fault(
    "quantizer",
    replaces=(HQQLinear, "quantize"),
    seen_by=("lora[*-lora-hqq-int4]",),
    fitted=True,
    subtle=True,
)
def last_scale_two_percent_off(original: Any, layer: Any, *args: Any, **kwargs: Any) -> None:
    """Make the last scale of each weight of hqq's 2 % larger.

    Stands for kernels that spoil the group at an edge.
    """
    original(layer, *args, **kwargs)
    layer.meta["scale"].view(-1)[-1] *= 1.02


def _rounded(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(HALF).to(tensor.dtype)
