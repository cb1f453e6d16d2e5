"""Faults in what quantizers make of weights, and in how they compute with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from bitsandbytes import functional
from bitsandbytes.autograd._functions import MatMul4Bit
from bitsandbytes.nn import Linear4bit
from hqq.core.quantize import HQQLinear, Quantizer
from optimum.quanto.tensor.optimizers.absmax_optimizer import AbsmaxOptimizer
from torchao.quantization import quant_api

from tunematrix.configuration import Configuration
from tunematrix.faults.catalogue import fault
from tunematrix.faults.patching import replaced

EXCESS = 1.02


@fault(
    "quantizer",
    replaces=(Quantizer, "quantize"),
    seen_by=("lora[*-lora-hqq-int4]", "same-dequantized[*-hqq-int4]"),
    fitted=True,
)
def rounded_without_optimizing(original: Any, weight: Any, **given: Any) -> Any:
    """Let hqq round to the nearest value, and not look for a better zero point.

    Stands for settings of a quantizer that don't reach it: as many bits, and more error.
    """
    return original(weight, **{**given, "optimize": False})


@fault(
    "quantizer",
    replaces=(Quantizer, "quantize"),
    seen_by=("lora[*-lora-hqq-int8]", "same-dequantized[*-hqq-int8]"),
    fitted=True,
)
def quantized_twice(original: Any, weight: Any, **given: Any) -> Any:
    """Let hqq's 8 bits hold what 4 bits have left of the weights.

    Stands for checkpoints that were quantized once, and are loaded as if they were whole.
    """
    coarse, meta = original(weight, **{**given, "nbits": 4, "compute_dtype": weight.dtype})
    meta["compute_dtype"] = weight.dtype
    return original(Quantizer.dequantize(coarse, meta), **given)


@fault(
    "quantizer",
    replaces=(HQQLinear, "quantize"),
    seen_by=("lora[*-lora-hqq-int4]", "same-dequantized[*-hqq-int4]"),
    fitted=True,
)
def scales_of_the_neighbours(original: Any, layer: Any, *args: Any, **kwargs: Any) -> None:
    """Give each group the scale of the group before it, in hqq layers that narrow.

    Stands for packing and unpacking that disagree about the order of groups.
    """
    original(layer, *args, **kwargs)
    if layer.in_features > layer.out_features:
        scales = layer.meta["scale"]
        layer.meta["scale"] = scales.flatten().roll(1).view_as(scales)


@fault(
    "quantizer",
    replaces=(functional, "quantize_4bit"),
    seen_by=("lora[*-lora-bnb-nf4]", "same-dequantized[*-bnb-nf4]"),
    fitted=True,
)
def another_code_of_four_bits(original: Any, weight: Any, **given: Any) -> Any:
    """Let bitsandbytes quantize to FP4, its own default, where NF4 was asked for.

    Stands for a quant_type that is lost between configuration and kernel: as many bits, and
    values that fit the weights less well.
    """
    return original(weight, **{**given, "quant_type": "fp4"})


@fault("quantizer", replaces=(functional, "quantize_4bit"), seen_by=("lora[*-lora-bnb-nf4]",))
def scales_quantized_once(original: Any, weight: Any, **given: Any) -> Any:
    """Keep the scales of bitsandbytes' groups in 32 bits, though they were to be quantized.

    Stands for double quantization that is ignored: a tenth more memory, and no other sign.
    """
    return original(weight, **{**given, "compress_statistics": False})


@fault(
    "quantizer", seen_by=("lora[*-lora-bnb-nf4]", "same-as-custom-lora-bnb[*-bnb-nf4]"), fitted=True
)
def backward_through_other_weights(config: Configuration) -> Iterator[None]:
    """Let 4-bit layers pass gradients back 2 % too large, while they compute what they should.

    Stands for kernels with a backward pass of their own, which dequantizes otherwise.
    """

    def wrap(original: Any) -> Any:
        def backward(context: Any, gradient: Any) -> Any:
            first, *others = original(context, gradient)
            return (first if first is None else first * EXCESS, *others)

        return staticmethod(backward)

    with replaced(MatMul4Bit, "backward", wrap):
        yield


@fault(
    "quantizer",
    replaces=(Linear4bit, "__init__"),
    seen_by=("bf16[*-lora-bnb-nf4-bf16]", "lora[*-lora-bnb-nf4]"),
    fitted=True,
)
def compute_dtype_ignored(original: Any, layer: Any, *args: Any, **kwargs: Any) -> None:
    """Let 4-bit layers compute in the dtype that they weren't told.

    Stands for a bnb_4bit_compute_dtype that the first input overwrites
    (bitsandbytes-foundation/bitsandbytes#1623).
    """
    original(layer, *args, **kwargs)
    other = {torch.float32: torch.bfloat16, torch.bfloat16: torch.float32}
    layer.compute_dtype = other.get(layer.compute_dtype, torch.bfloat16)


@fault(
    "quantizer",
    replaces=(AbsmaxOptimizer, "optimize"),
    seen_by=("lora[*-lora-quanto-int8]", "same-dequantized[*-quanto-int8]"),
    fitted=True,
)
def one_scale_for_all_rows(
    original: Any, optimizer: Any, base: Any, qtype: Any, axis: Any = None
) -> Any:
    """Let quanto scale all rows of a weight by the largest of their scales.

    Stands for quantization by tensor where it was to be by channel.
    """
    scales = original(optimizer, base, qtype, axis)
    return scales.max().expand_as(scales).contiguous()


@fault(
    "quantizer",
    replaces=(quant_api, "_replace_with_custom_fn_if_matches_filter"),
    seen_by=("lora[*-lora-torchao-int8]",),
)
def one_layer_left_whole(
    original: Any, model: Any, change: Any, wanted: Any, *args: Any, **kwargs: Any
) -> Any:
    """Let torchao pass over one layer of those that it is asked to quantize.

    Stands for names that a loader keeps in full because they look like a head's or a router's.
    """

    def fewer(module: Any, name: str) -> bool:
        return bool(wanted(module, name)) and not name.endswith("layers.1.mlp.up_proj")

    return original(model, change, fewer, *args, **kwargs)


@fault(
    "quantizer",
    replaces=(quant_api, "_replace_with_custom_fn_if_matches_filter"),
    seen_by=("generate[*-torchao-int8]", "custom-lora[*-custom-lora-torchao-int8]"),
)
def head_quantized_as_well(
    original: Any, model: Any, change: Any, wanted: Any, *args: Any, **kwargs: Any
) -> Any:
    """Let torchao quantize the output head, which was to stay as it is.

    Stands for filters that take every linear layer: a tied head parts from its embeddings.
    """

    def more(module: Any, name: str) -> bool:
        return bool(wanted(module, name)) or name.endswith("lm_head")

    return original(model, change, more, *args, **kwargs)
