"""Faults in what a device computes, and in what reaches it: silent ones, as some backends had."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator, data_loader
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from tunematrix.configuration import Configuration
from tunematrix.faults.catalogue import fault
from tunematrix.faults.patching import replaced

EXCESS = 1.01
EVERY = 7
DROPPED_BITS = 13
"""Of float32's mantissa, which TF32 doesn't have."""


@fault("device", seen_by=("bf16[*-lora-none-bf16]", "full-precision[*-full-bf16]"))
def autocast_elsewhere(config: Configuration) -> Iterator[None]:
    """Ask for mixed precision on a device that computes nothing.

    Stands for autocast whose device was written down for another machine: it warns at most, and
    everything is computed in full.
    """

    def wrap(original: Any) -> Any:
        @contextmanager
        def autocast(accelerator: Any, *args: Any, **kwargs: Any) -> Iterator[None]:
            with torch.autocast("meta", enabled=False):
                yield

        return autocast

    def plain(original: Any) -> Any:
        def prepare(accelerator: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
            accelerator.native_amp = False
            return original(accelerator, model, *args, **kwargs)

        return prepare

    with (
        replaced(Accelerator, "autocast", wrap),
        replaced(Accelerator, "prepare_model", plain),
    ):
        yield


@fault(
    "device",
    replaces=(functional, "scaled_dot_product_attention"),
    seen_by=("lora[*-lora-none]", "full[*-full-none]"),
    fitted=True,
)
def attention_without_its_kernel(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Let attention multiply and take a softmax, as where a device has no kernel for its inputs.

    Stands for masks, head sizes and dtypes that PyTorch's kernels refuse without a word: the values
    are the same, and memory grows with the square of the length.
    """
    with sdpa_kernel(SDPBackend.MATH):
        return original(*args, **kwargs)


@fault("device", seen_by=("full[*-full-none]", "lora[*-lora-none]"), fitted=True)
def update_lost_in_place(config: Configuration) -> Iterator[None]:
    """Let `addcdiv_` do nothing to one tensor: its moments move, and its values never do.

    Stands for pytorch/pytorch#118115, where MPS wrote updates of strided tensors into a copy.
    """
    lost: list[int] = []

    def wrap(original: Any) -> Any:
        def addcdiv_(tensor: Any, *args: Any, **kwargs: Any) -> Any:
            lost[:] = lost or [tensor.data_ptr()]
            return tensor if tensor.data_ptr() in lost else original(tensor, *args, **kwargs)

        return addcdiv_

    with replaced(torch.Tensor, "addcdiv_", wrap):
        yield


@fault(
    "device",
    replaces=(functional, "linear"),
    seen_by=("lora[*-lora-none]", "parity[*]"),
    subtle=True,
)
def products_in_fewer_bits(original: Any, inputs: Any, weight: Any, bias: Any = None) -> Any:
    """Round what linear layers multiply to the 10 bits of mantissa that TF32 has.

    Stands for float32 products that a device computes in less by default
    (torch.backends.cuda.matmul.allow_tf32).
    """
    return original(_rounded(inputs), _rounded(weight), bias)


@fault(
    "device",
    replaces=(functional, "scaled_dot_product_attention"),
    seen_by=("lora[*-lora-none]", "parity[*]"),
    subtle=True,
)
def attention_scaled_otherwise(original: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
    """Scale the products of queries and keys by 1 % more.

    Stands for kernels of attention that take their scale from a padded head.
    """
    return original(query * EXCESS, *args, **kwargs)


@fault("device", seen_by=("full[*-full-none]", "lora[*-lora-none]"))
def batch_sent_twice(config: Configuration) -> Iterator[None]:
    """Hand over the batch before in place of each seventh one.

    Stands for transfers that aren't waited for, so that a buffer is read before it is filled.
    """
    before: list[Any] = []
    calls = 0

    def wrap(original: Any) -> Any:
        def send(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            sent = original(tensors, *args, **kwargs)
            if calls % EVERY or not before:
                before[:] = [sent]
            return before[0]

        return send

    with replaced(data_loader, "send_to_device", wrap):
        yield


class _Rounding(torch.autograd.Function):
    """Rounds forwards, and lets gradients through as they are."""

    @staticmethod
    def forward(context: Any, tensor: Any) -> Any:
        bits = tensor.view(torch.int32)
        half = 1 << (DROPPED_BITS - 1)
        return ((bits + half) >> DROPPED_BITS << DROPPED_BITS).view(torch.float32)

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Any:
        return gradients[0]


def _rounded(tensor: Any) -> Any:
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or tensor.dtype != torch.float32:
        return tensor
    rounded: Any = _Rounding.apply(tensor.contiguous())
    return rounded
