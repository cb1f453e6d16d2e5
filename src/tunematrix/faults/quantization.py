"""Faults in how the base is stored."""

from __future__ import annotations

from typing import Any

from bitsandbytes import functional
from hqq.models.hf.base import AutoHQQHFModel

from tunematrix.faults.catalogue import fault
from tunematrix.stack.engines.torch import Engine

EXCESS = 1.01


@fault(
    "quantizer",
    replaces=(AutoHQQHFModel, "quantize_model"),
    seen_by=("lora[*-lora-hqq-int4]",),
    fitted=True,
)
def nothing_quantized(_original: Any, *_: Any, **__: Any) -> Any:
    """Let hqq's loader return without having replaced a layer.

    Stands for quantizers whose list of layers is empty, and that don't say so.
    """
    return None


@fault(
    "quantizer",
    replaces=(Engine, "load"),
    seen_by=("same-dequantized[*-hqq-int4]",),
    fitted=True,
    subtle=True,
)
def one_layer_computes_more(original: Any, engine: Any, base: Any) -> Any:
    """Let one quantized layer give 1 % more than its weights do.

    Stands for kernels that round a scale, or unpack a group with its neighbour's.
    """
    model = original(engine, base)
    layer = model.get_submodule(base.linears[0])
    layer.register_forward_hook(lambda _, __, output: output * EXCESS)
    return model


@fault(
    "quantizer",
    replaces=(functional, "quantize_4bit"),
    seen_by=("lora[*-lora-bnb-nf4]",),
    fitted=True,
)
def one_block_of_another_scale(original: Any, *args: Any, **given: Any) -> Any:
    """Give the first block of each NF4 weight the scale of the second.

    Stands for kernels that spoil the block at an edge
    (https://github.com/bitsandbytes-foundation/bitsandbytes/pull/1884): one of 256 blocks here.
    """
    codes, state = original(*args, **given)
    state.absmax[0] = state.absmax[1]
    return codes, state
