"""Faults of a third blind trial: quantizers."""

from __future__ import annotations

from typing import Any

import torch
from bitsandbytes import functional
from hqq.core.quantize import Quantizer
from optimum.quanto.tensor.function import QuantizedLinearFunction
from optimum.quanto.tensor.weights.qbytes import WeightQBytesQuantizer
from torchao.quantization import Int8Tensor

from tunematrix.faults.catalogue import fault

TWO_ZEROS = 0x77
"""Two weights of NF4 in a byte, both 0."""


@fault(
    "quantizer",
    replaces=(functional, "quantize_4bit"),
    seen_by=("lora[*-lora-bnb-nf4]", "custom-lora[*-custom-lora-bnb-nf4]"),
    subtle=True,
)
def last_two_weights_lost(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Store 0 for the last two weights of each 4-bit layer.

    Stands for kernels whose last block ends early (bitsandbytes-foundation/bitsandbytes#1884).
    """
    packed, state = original(*args, **kwargs)
    packed.view(-1)[-1] = TWO_ZEROS
    return packed, state


@fault(
    "quantizer",
    replaces=(functional, "int8_vectorwise_quant"),
    seen_by=("lora[*-lora-bnb-int8]", "custom-lora[*-custom-lora-bnb-int8]"),
    subtle=True,
)
def last_row_scaled_as_the_one_before(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Give the last row of each 8-bit weight the scale of the row before it."""
    codes, scales, outliers = original(*args, **kwargs)
    scales[-1] = scales[-2]
    return codes, scales, outliers


@fault(
    "quantizer",
    replaces=(Quantizer, "dequantize"),
    seen_by=("lora[*-lora-hqq-int8]", "lora[*-lora-hqq-int4]"),
    subtle=True,
)
def dequantized_to_float16(original: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
    """Round weights of hqq to float16, whatever the arithmetic's dtype is.

    Stands for a dtype that is lost on the way, so that hqq's own default takes its place.
    """
    found: torch.Tensor = original(*args, **kwargs)
    return found.half().to(found.dtype)


@fault(
    "quantizer",
    replaces=(QuantizedLinearFunction, "backward"),
    seen_by=("lora[*-lora-quanto-int8]", "custom-lora[*-custom-lora-quanto-int8]"),
    subtle=True,
)
def gradients_enter_in_bfloat16(original: Any, context: Any, gradient: torch.Tensor) -> Any:
    """Round to bfloat16 the gradients that go back through quanto's layers."""
    return original(context, gradient.bfloat16().to(gradient.dtype))


@fault(
    "quantizer",
    replaces=(Int8Tensor, "from_hp"),
    seen_by=("lora[*-lora-torchao-int8]", "custom-lora[*-custom-lora-torchao-int8]"),
    subtle=True,
)
def one_bit_less(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Use 7 of the 8 bits that weights of torchao are stored in.

    Stands for the range that some CPUs need for their products (`reduce_range`), where nobody
    asked for it.
    """
    return original(*args, **{**kwargs, "reduce_range": True})


@fault(
    "quantizer",
    replaces=(WeightQBytesQuantizer, "forward"),
    seen_by=("lora[*-lora-quanto-int8]", "custom-lora[*-custom-lora-quanto-int8]"),
    subtle=True,
)
def quantized_from_bfloat16(
    original: Any, context: Any, base: torch.Tensor, *args: Any, **kwargs: Any
) -> Any:
    """Round weights to bfloat16 before quanto rounds them to 8 bits.

    Stands for bases that are loaded in half precision because they will be quantized anyway.
    """
    return original(context, base.bfloat16().to(base.dtype), *args, **kwargs)
