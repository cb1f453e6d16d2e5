"""Faults of quantizers: what is stored, what it stands for, and what goes back through it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from tunematrix.configuration import Configuration
from tunematrix.faults.catalogue import fault


@fault(
    "quantizer", seen_by=("lora[*-lora-bnb-nf4]", "generate[*-bnb-nf4]"), subtle=True, fitted=True
)
def scales_of_blocks_cut_off(config: Configuration) -> Iterator[None]:
    """Quantize the scales of 4-bit blocks to the next smaller code, and not to the nearest one."""
    from bitsandbytes import functional

    original = functional.quantize_blockwise

    def quantize(values: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        codes, state = original(values, *args, **kwargs)
        size = state.blocksize
        scales = state.absmax.repeat_interleave(size)[: values.numel()].view(values.shape)
        places = torch.searchsorted(state.code, (values / scales).contiguous(), right=True) - 1
        return places.clamp(0, 255).to(codes.dtype).view(codes.shape), state

    functional.quantize_blockwise = quantize
    yield
    functional.quantize_blockwise = original


@fault("quantizer", seen_by=("lora[*-lora-bnb-nf4]", "dora[*-dora-bnb-nf4]"), subtle=True)
def gradient_leaves_four_bits_in_half(config: Configuration) -> Iterator[None]:
    """Take the gradient back through 4-bit weights in bfloat16, whatever is computed in forward."""
    from bitsandbytes.autograd import _functions

    original = _functions.MatMul4Bit.backward

    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        return original(ctx, gradient.bfloat16().to(gradient.dtype))

    _functions.MatMul4Bit.backward = staticmethod(backward)
    yield
    _functions.MatMul4Bit.backward = staticmethod(original)


@fault("quantizer", seen_by=("lora[*-lora-hqq-int4]", "lora[*-lora-hqq-int8]"), subtle=True)
def zero_points_kept_in_half(config: Configuration) -> Iterator[None]:
    """Round HQQ's scales and zero points to bfloat16, after weights were rounded by exact ones."""
    from hqq.core.quantize import Quantizer

    original = Quantizer.__dict__["quantize"]

    def quantize(cls: Any, *args: Any, **kwargs: Any) -> Any:
        packed, meta = original.__func__(cls, *args, **kwargs)
        for name in ("scale", "zero"):
            meta[name] = meta[name].bfloat16().to(meta[name].dtype)
        return packed, meta

    Quantizer.quantize = classmethod(quantize)
    yield
    Quantizer.quantize = original


@fault(
    "quantizer",
    seen_by=("lora[*-lora-quanto-int4]", "custom-lora[*-custom-lora-quanto-int4]"),
    fitted=True,
)
def zero_on_a_whole_step(config: Configuration) -> Iterator[None]:
    """Move quanto's 4-bit grid so that 0 is on it, and leave its range as wide as it was."""
    from optimum.quanto.tensor.optimizers.max_optimizer import MaxOptimizer

    original = MaxOptimizer.optimize

    def optimize(self: Any, *args: Any, **kwargs: Any) -> Any:
        scale, shift = original(self, *args, **kwargs)
        return scale, torch.round(shift / scale) * scale

    MaxOptimizer.optimize = optimize
    yield
    MaxOptimizer.optimize = original


@fault("quantizer", seen_by=("lora[*-lora-torchao-int8]", "generate[*-torchao-int8]"))
def one_scale_for_a_whole_matrix(config: Configuration) -> Iterator[None]:
    """Give torchao's 8-bit weights one scale for all of a matrix, where each row has its own."""
    from torchao.quantization.granularity import PerTensor
    from torchao.quantization.quantize_.workflows.int8.int8_tensor import Int8Tensor

    original = Int8Tensor.__dict__["from_hp"]

    def from_hp(cls: Any, weight: Any, /, granularity: Any = None, **kwargs: Any) -> Any:
        return original.__func__(cls, weight, granularity=PerTensor(), **kwargs)

    Int8Tensor.from_hp = classmethod(from_hp)
    yield
    Int8Tensor.from_hp = original
