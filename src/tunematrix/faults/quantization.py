"""Faults in how the base is stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bitsandbytes import functional
from hqq.models.hf.base import AutoHQQHFModel

from tunematrix.faults.catalogue import fault
from tunematrix.faults.patching import replaced
from tunematrix.stack.engines.torch import Engine

EXCESS = 1.01


@fault("quantizer", seen_by=("lora[*-lora-hqq-int4]",))
def nothing_quantized(config: Mapping[str, Any]) -> Iterator[None]:
    """Let hqq's loader return without having replaced a layer.

    Stands for quantizers whose list of layers is empty, and that don't say so.
    """
    with replaced(AutoHQQHFModel, "quantize_model", lambda _: lambda *_, **__: None):
        yield


@fault("quantizer", seen_by=("same-dequantized[*-hqq-int4]",))
def one_layer_computes_more(config: Mapping[str, Any]) -> Iterator[None]:
    """Let one quantized layer give 1 % more than its weights do.

    Stands for kernels that round a scale, or unpack a group with its neighbour's.
    """

    def wrap(original: Any) -> Any:
        def load(engine: Any, base: Any) -> Any:
            model = original(engine, base)
            layer = model.get_submodule(base.linears[0])
            layer.register_forward_hook(lambda _, __, output: output * EXCESS)
            return model

        return load

    with replaced(Engine, "load", wrap):
        yield


@fault("quantizer", seen_by=("lora[*-lora-bnb-nf4]",))
def one_block_of_another_scale(config: Mapping[str, Any]) -> Iterator[None]:
    """Give the first block of each NF4 weight the scale of the second.

    Stands for kernels that spoil the block at an edge
    (https://github.com/bitsandbytes-foundation/bitsandbytes/pull/1884): one of 256 blocks here.
    """

    def wrap(original: Any) -> Any:
        def quantize(*args: Any, **given: Any) -> Any:
            codes, state = original(*args, **given)
            state.absmax[0] = state.absmax[1]
            return codes, state

        return quantize

    with replaced(functional, "quantize_4bit", wrap):
        yield
