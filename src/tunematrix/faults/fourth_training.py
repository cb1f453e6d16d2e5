"""Faults of a step: gradients, their sum and their clipping, optimizers, rates and arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.utils import clip_grad
from transformers import PreTrainedModel, Trainer, optimization
from trl.kernels import chunked_logprob

from tunematrix.configuration import Configuration
from tunematrix.faults.catalogue import fault


@fault("gradients", seen_by=("full[*-full-none]", "same-accumulation[*-full-none]"))
def tied_head_learns_nothing(config: Configuration) -> Iterator[None]:
    """Give the head's weight no gradient, so that tied embeddings learn by what enters alone.

    As a kernel does that was written for heads that are frozen.
    """
    whole = chunked_logprob.ChunkedLogProbFunction.backward

    def backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
        of_hidden, of_weight, *others = whole(ctx, *gradients)
        nothing = None if of_weight is None else torch.zeros_like(of_weight)
        return (of_hidden, nothing, *others)

    chunked_logprob.ChunkedLogProbFunction.backward = staticmethod(backward)
    yield
    chunked_logprob.ChunkedLogProbFunction.backward = staticmethod(whole)


@fault(
    "gradients",
    replaces=(PreTrainedModel, "_set_gradient_checkpointing"),
    seen_by=(
        "checkpointing[*-full-none]",
        "checkpointing[*-lora-none]",
        "same-checkpointing[*-full-none]",
    ),
    subtle=True,
)
def checkpointed_inputs_kept_in_half(original: Any, self: Any, *args: Any, **kwargs: Any) -> None:
    """Keep what enters a checkpointed layer in bfloat16, and compute it again from that."""
    compute = kwargs.get("gradient_checkpointing_func")
    if compute is not None:
        kwargs = {**kwargs, "gradient_checkpointing_func": _from_half(compute)}
    original(self, *args, **kwargs)


def _from_half(compute: Any) -> Any:
    def checkpointed(layer: Any, hidden: torch.Tensor, *others: Any) -> Any:
        runs = 0

        def run(entering: torch.Tensor, *rest: Any) -> Any:
            nonlocal runs
            runs += 1
            if runs > 1:
                entering = entering + (entering.bfloat16().to(entering.dtype) - entering).detach()
            return layer(entering, *rest)

        return compute(run, hidden, *others)

    return checkpointed


@fault(
    "accumulation",
    replaces=(Trainer, "training_step"),
    seen_by=("accumulation[*-lora-unequal]", "accumulation[*-full-unequal]", "single-rows[*-lora]"),
    subtle=True,
)
def sums_of_gradients_kept_in_half(
    original: Any, self: Any, model: Any, *args: Any, **kwargs: Any
) -> torch.Tensor:
    """Round the sum of gradients to bfloat16, in which it is kept between micro-batches."""
    loss: torch.Tensor = original(self, model, *args, **kwargs)
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.copy_(parameter.grad.bfloat16())
    return loss


@fault(
    "gradients",
    replaces=(clip_grad, "_clip_grads_with_norm_"),
    seen_by=("lora[*-lora-none]", "dpo[*-none-prompt-completion]"),
)
def small_gradients_are_stretched(
    original: Any, parameters: Any, max_norm: float, total_norm: torch.Tensor, *args: Any
) -> None:
    """Scale every gradient to the limit, those below it too: the factor isn't capped at 1."""
    if not math.isfinite(max_norm):
        original(parameters, max_norm, total_norm, *args)
        return
    for parameter in [parameters] if isinstance(parameters, torch.Tensor) else parameters:
        if parameter.grad is not None:
            parameter.grad.mul_(float(max_norm) / (total_norm + 1e-6))


@fault(
    "gradients",
    replaces=(clip_grad, "_get_total_norm"),
    seen_by=("full[*-full-none]", "optimizers[*-full-sgd-linear]"),
    subtle=True,
)
def vectors_left_out_of_the_norm(
    original: Any, tensors: Any, *args: Any, **kwargs: Any
) -> torch.Tensor:
    """Take the norm of all gradients from matrices alone.

    As where tensors are grouped by how they are sharded, and the small ones, which aren't, are
    forgotten.
    """
    some = [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
    norm: torch.Tensor = original([one for one in some if one.ndim > 1] or some, *args, **kwargs)
    return norm


@fault(
    "optimizer",
    replaces=(torch.optim.Adam, "step"),
    seen_by=("full[*-full-none]", "lora[*-lora-none]"),
    subtle=True,
)
def last_element_is_never_moved(original: Any, self: Any, closure: Any = None) -> Any:
    """Leave the last element of each tensor as it is: a fused kernel ends one too early."""
    kept = [
        (parameter, parameter.detach().view(-1)[-1].clone())
        for group in self.param_groups
        for parameter in group["params"]
        if parameter.grad is not None and isinstance(parameter, torch.nn.Parameter)
    ]
    result = original(self, closure)
    with torch.no_grad():
        for parameter, value in kept:
            parameter.view(-1)[-1] = value
    return result


@fault(
    "optimizer",
    replaces=(torch.optim.SGD, "step"),
    seen_by=("optimizers[*-full-sgd-cosine]", "optimizers[*-full-sgd-linear]"),
    subtle=True,
)
def rate_rounded_to_half(original: Any, self: Any, closure: Any = None) -> Any:
    """Step by a rate in bfloat16, as one that is kept in a tensor on the device."""
    rates = [group["lr"] for group in self.param_groups]
    for group in self.param_groups:
        group["lr"] = float(torch.tensor(group["lr"], dtype=torch.bfloat16))
    try:
        return original(self, closure)
    finally:
        for group, rate in zip(self.param_groups, rates, strict=True):
            group["lr"] = rate


@fault(
    "scheduler",
    replaces=(optimization, "_get_cosine_schedule_with_warmup_lr_lambda"),
    seen_by=("schedules[*-lora-cosine]", "optimizers[*-full-adamw-cosine]"),
)
def cosine_of_one_step_more(
    original: Any, step: int, *, num_training_steps: int, **kwargs: Any
) -> float:
    """Let the cosine end a step after training does, so that the rate never falls far enough.

    As where the number of steps is the rows' over a batch's, rounded up once more.
    """
    factor: float = original(step, num_training_steps=num_training_steps + 1, **kwargs)
    return factor


@fault(
    "precision",
    replaces=(chunked_logprob, "_forward_tile"),
    seen_by=("bf16[*-lora-none-bf16]", "full-precision[*-full-bf16]"),
    subtle=True,
)
def denominator_kept_in_half(original: Any, tile: torch.Tensor, *args: Any, **kwargs: Any) -> None:
    """Sum the exponentials of logits in their own half precision, where float32 is needed."""
    original(tile, *args, **kwargs)
    if tile.dtype != torch.float32:
        sum_exp = args[3]
        sum_exp.copy_(sum_exp.to(tile.dtype))


@fault(
    "precision",
    replaces=(torch.nn.functional, "scaled_dot_product_attention"),
    seen_by=("bf16[*-lora-none-bf16]", "full-precision[*-full-bf16]", "fp16[*-lora-fp16]"),
    subtle=True,
)
def attention_scored_in_half(
    original: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Round the scores of attention to half precision before their softmax."""
    device = query.device.type
    autocast = torch.is_autocast_enabled(device)
    half = torch.get_autocast_dtype(device) if autocast else query.dtype
    if half == torch.float32 or enable_gqa or dropout_p:
        mixed: torch.Tensor = original(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
        return mixed
    with torch.autocast(device, enabled=False):
        return _in_half(query.to(half), key.to(half), value.to(half), attn_mask, is_causal, scale)


def _in_half(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    is_causal: bool,
    scale: float | None,
) -> torch.Tensor:
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~allowed, float("-inf"))
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    elif mask is not None:
        scores = scores + mask.to(scores.dtype)
    return scores.softmax(-1) @ value
