"""Faults in what the backward pass brings: small enough for a loss curve to hide them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from transformers.models.llama.modeling_llama import LlamaDecoderLayer
from trl.trainer import utils

from tunematrix.configuration import Configuration
from tunematrix.faults.catalogue import fault
from tunematrix.faults.patching import replaced

EXCESS = 1.01
LATE = 5
"""Steps that go well before a late fault."""


@fault(
    "gradients",
    replaces=(torch.Tensor, "backward"),
    seen_by=("full[*-full-none]", "lora[*-lora-none]", "lora[*-lora-hqq-int4]"),
    fitted=True,
    subtle=True,
)
def scaled_by_one_percent(original: Any, loss: Any, *args: Any, **kwargs: Any) -> Any:
    """Make each gradient 1 % too large, while the logged loss stays what it was.

    Stands for divisors that count a few tokens too many (huggingface/transformers#34191).
    """
    return original(loss * EXCESS, *args, **kwargs)


@fault(
    "accumulation",
    replaces=(torch.Tensor, "backward"),
    seen_by=("accumulation[*-lora-unequal]", "same-accumulation[*-lora-none]"),
    fitted=True,
)
def last_micro_batch_lost(
    original: Any, loss: Any, *args: Any, config: Configuration, call: int, **kwargs: Any
) -> None:
    """Let the last micro-batch of each step leave no gradient.

    Stands for loops that step, or zero the gradients, one micro-batch off.
    """
    is_last = call % config.train.accumulation == 0
    original(loss * (not is_last), *args, **kwargs)


@fault(
    "gradients",
    replaces=(torch.Tensor, "backward"),
    seen_by=("distributed[*-ddp-lora-unequal]", "same-distributed[*-full]"),
    fitted=True,
)
def rank_left_out(original: Any, loss: Any, *args: Any, **kwargs: Any) -> None:
    """Let the second process bring no gradient to the average.

    Stands for processes that leave the average early, or have nothing left of the data.
    """
    original(loss * (int(os.environ.get("RANK", "0")) != 1), *args, **kwargs)


@fault("gradients", fitted=True, subtle=True)
def scaled_from_the_second_step(config: Configuration) -> Iterator[None]:
    """Make gradients 1 % too large from the second step on, when first steps have been looked at.

    Stands for scales that are right until something is warm: a loss scale, a running divisor.
    """
    stepped = False

    def after(*_: object) -> None:
        nonlocal stepped
        stepped = True

    def wrap(original: Any) -> Any:
        def backward(loss: Any, *args: Any, **kwargs: Any) -> None:
            original(loss * EXCESS if stepped else loss, *args, **kwargs)

        return backward

    handle = register_optimizer_step_post_hook(after)
    try:
        with replaced(torch.Tensor, "backward", wrap):
            yield
    finally:
        handle.remove()


@fault("gradients", replaces=(Accelerator, "clip_grad_norm_"))
def not_clipped(original: Any, accelerator: Any, parameters: Any, limit: Any, *more: Any) -> Any:
    """Measure the norm that is to be clipped, log it, and clip nothing.

    Stands for huggingface/trl#3312.
    """
    return original(accelerator, parameters, float("inf"), *more)


@fault("gradients", replaces=(Accelerator, "clip_grad_norm_"), fitted=True)
def clipped_tensor_by_tensor(
    original: Any, accelerator: Any, parameters: Any, limit: float, *more: Any
) -> Any:
    """Clip each tensor by its own norm, and not all of them by their common one.

    Stands for sharded and grouped parameters whose norms nobody adds up before they are clipped.
    """
    listed = list(parameters)
    norm = original(accelerator, listed, float("inf"), *more)
    for parameter in listed:
        if parameter.grad is not None:
            nn.utils.clip_grad_norm_([parameter], limit)
    return norm


@fault(
    "gradients",
    replaces=(nn.Module, "zero_grad"),
    seen_by=("lora[*-lora-none]", "same-as-custom-lora[*-none]"),
)
def one_gradient_never_zeroed(original: Any, model: Any, *args: Any, **kwargs: Any) -> None:
    """Let the last trained tensor keep its gradient from step to step, so that they add up.

    Stands for parameters that a wrapper hides from the model or from the optimizer, whichever of
    them zeroes the gradients.
    """
    last = [p for p in model.parameters() if p.requires_grad][-1:]
    kept = [(p, p.grad) for p in last]
    original(model, *args, **kwargs)
    for parameter, gradient in kept:
        parameter.grad = gradient


@fault(
    "gradients",
    replaces=(utils._ChunkedLogProbFunction, "apply"),
    seen_by=("full[*-full-none]", "same-distributed[*-full]"),
)
def tied_head_teaches_nothing(original: Any, states: Any, weight: Any, *more: Any) -> Any:
    """Detach the head in the loss: tied embeddings get the gradient of their other half alone.

    Stands for fused losses that compute no gradient of the head's weight, as they needn't where it
    is frozen.
    """
    return original(states, weight.detach(), *more)


@fault("gradients", seen_by=("full[*-full-none]", "lora[*-lora-none]", "parity[*]"))
def one_norm_taken_for_a_constant(config: Configuration) -> Iterator[None]:
    """Take the scale of the first layer's second norm for a constant in the backward pass.

    Stands for backward kernels of norms that are wrong (unslothai/unsloth#10617) or left out
    (unslothai/unsloth#4533); the value is right.
    """

    def constant(norm: Any, states: torch.Tensor) -> torch.Tensor:
        scale = torch.rsqrt(states.float().pow(2).mean(-1, keepdim=True) + norm.variance_epsilon)
        found: torch.Tensor = norm.weight * (states.float() * scale.detach()).to(states.dtype)
        return found

    def wrap(original: Any) -> Any:
        def init(layer: Any, *args: Any, **kwargs: Any) -> None:
            original(layer, *args, **kwargs)
            if layer.self_attn.layer_idx == 0:
                norm = layer.post_attention_layernorm
                norm.forward = partial(constant, norm)

        return init

    with replaced(LlamaDecoderLayer, "__init__", wrap):
        yield


@fault("gradients", fitted=True)
def first_tensor_stops_late(config: Configuration) -> Iterator[None]:
    """Zero the gradient of the first trained tensor from the sixth step on.

    Stands for hooks that fall off, and layers that a schedule freezes and never frees.
    """
    steps = count()

    def before(optimizer: Any, *_: object) -> None:
        if next(steps) >= LATE:
            first = next(p for group in optimizer.param_groups for p in group["params"])
            if first.grad is not None:
                first.grad.zero_()

    handle = register_optimizer_step_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()
