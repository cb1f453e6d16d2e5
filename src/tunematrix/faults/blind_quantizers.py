"""Blind faults in each quantizer."""

from __future__ import annotations

from typing import Any

import torch
from bitsandbytes import functional
from bitsandbytes.autograd._functions import MatMul8bitFp
from hqq.core.quantize import HQQLinear, Quantizer
from optimum.quanto.tensor.optimizers.absmax_optimizer import AbsmaxOptimizer
from torchao.quantization import IntxUnpackedToInt8Tensor
from torchao.quantization.quantize_.workflows.int8.int8_tensor import Int8Tensor

from tunematrix.faults.catalogue import fault


@fault(
    "quantizer",
    replaces=(functional, "dequantize_4bit"),
    seen_by=(
        "lora[*-lora-bnb-nf4]",
        "custom-lora[*-custom-lora-bnb-nf4]",
        "same-as-custom-lora-bnb[*-bnb-nf4]",
    ),
    subtle=True,
)
def backward_through_rounded_4_bits(original: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
    """Round 4-bit weights to bfloat16 as they are dequantized for the backward pass."""
    found: torch.Tensor = original(*args, **kwargs)
    return found.bfloat16().to(found.dtype)


@fault(
    "quantizer",
    replaces=(MatMul8bitFp, "backward"),
    seen_by=("lora[*-lora-bnb-int8]", "custom-lora[*-custom-lora-bnb-int8]"),
    subtle=True,
    fitted=True,
)
def backward_divides_by_128(original: Any, ctx: Any, grad_output: torch.Tensor) -> Any:
    """Take an 8-bit weight's largest number for 128 in the backward pass, where it is 127."""
    first, *others = original(ctx, grad_output)
    return (None if first is None else first * (127 / 128), *others)


@fault(
    "quantizer",
    replaces=(Quantizer, "optimize_weights"),
    seen_by=(
        "lora[*-lora-hqq-int4]",
        "generate[*-hqq-int4]",
        "custom-lora[*-custom-lora-hqq-int4]",
    ),
)
def zero_points_not_optimized(
    original: Any, tensor: Any, scale: Any, zero: Any, min_max: Any, **kwargs: Any
) -> Any:
    """Round weights as min and max say, without hqq's half-quadratic search."""
    rounded = (tensor * scale + zero).round().clamp(min_max[0], min_max[1])
    return rounded, scale, zero


@fault(
    "quantizer",
    replaces=(HQQLinear, "__init__"),
    seen_by=(
        "pairs[*-toy-qwen-text-lora-hqq-int8-fp32-adam-constant]",
        "pairs[*-toy-qwen-text-dora-hqq-int4-fp32-adam-linear]",
    ),
)
def biases_of_the_base_lost(original: Any, layer: Any, *args: Any, **kwargs: Any) -> None:
    """Leave out the bias of a layer that hqq has quantized."""
    original(layer, *args, **kwargs)
    layer.bias = None


@fault(
    "quantizer",
    replaces=(AbsmaxOptimizer, "optimize"),
    seen_by=("lora[*-lora-quanto-int8]", "custom-lora[*-custom-lora-quanto-int8]"),
    fitted=True,
    subtle=True,
)
def scales_for_128_steps(original: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
    """Divide the largest weight by 128 where 127 is the largest number, so that it is cut off."""
    found: torch.Tensor = original(*args, **kwargs)
    return found * (127 / 128)


@fault(
    "quantizer",
    replaces=(Int8Tensor, "from_hp"),
    seen_by=("lora[*-lora-torchao-int8]", "custom-lora[*-custom-lora-torchao-int8]"),
    subtle=True,
)
def scales_in_bfloat16(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Round the scales of rows to bfloat16 after rows were quantized by the exact ones."""
    found = original(*args, **kwargs)
    found.scale = found.scale.bfloat16().to(found.scale.dtype)
    return found


@fault(
    "quantizer",
    replaces=(IntxUnpackedToInt8Tensor, "from_hp"),
    seen_by=("lora[*-lora-torchao-int4]", "custom-lora[*-custom-lora-torchao-int4]"),
)
def groups_of_twice_the_size(
    original: Any, tensor: Any, block_size: Any, *args: Any, **kw: Any
) -> Any:
    """Share a scale among 64 weights where 32 were asked for."""
    rows, columns = block_size
    wider = columns * 2
    fits = tensor.shape[-1] % wider == 0
    return original(tensor, (rows, wider if fits else columns), *args, **kw)
