"""Blind faults in losses, gradients and how they are accumulated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.utils import clip_grad
from transformers import Trainer
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeTopKRouter
from transformers.trainer_pt_utils import LabelSmoother
from trl.kernels import chunked_logprob
from trl.trainer import utils

from tunematrix.configuration import Configuration
from tunematrix.faults.catalogue import fault
from tunematrix.faults.patching import replaced


@fault(
    "loss",
    replaces=(LabelSmoother, "__call__"),
    seen_by=("smoothing[*-lora]",),
    subtle=True,
)
def smoothing_leaves_out_the_label_itself(
    original: Any, smoother: Any, output: Any, labels: Any, **kwargs: Any
) -> torch.Tensor:
    """Spread a smoothed label over the vocabulary less one, but sum over all of it."""
    logits = output["logits"] if isinstance(output, dict) else output[0]
    size = logits.shape[-1]
    whole: torch.Tensor = original(smoother, output, labels, **kwargs)
    epsilon, smoother.epsilon = smoother.epsilon, 0.0
    plain = original(smoother, output, labels, **kwargs)
    smoother.epsilon = epsilon
    smoothed = (whole - (1 - epsilon) * plain) * size / (size - 1)
    return (1 - epsilon) * plain + smoothed


@fault(
    "loss",
    replaces=(chunked_logprob, "_addmm_fp32"),
    seen_by=("full[*-full-none]", "lora[*-lora-none]"),
    subtle=True,
)
def head_gradient_multiplied_in_bfloat16(
    original: Any, acc: torch.Tensor, a: torch.Tensor, b: torch.Tensor
) -> None:
    """Round what the loss hands back to the head and the last layer to bfloat16."""
    original(acc, a.bfloat16().to(a.dtype), b.bfloat16().to(b.dtype))


@fault("loss", seen_by=("full[*-full-none]", "lora[*-lora-none]", "data[*-lora-unequal]"))
def log_probabilities_held_above_a_floor(config: Configuration) -> Iterator[None]:
    """Hold log-probabilities above -8, so that the worst predictions teach nothing."""

    def wrap(function: Any) -> Any:
        class Floored:
            @staticmethod
            def apply(*args: Any) -> Any:
                found, *others = function.apply(*args)
                return (found.clamp(min=-8.0), *others)

        return Floored

    with replaced(utils, "_ChunkedLogProbFunction", wrap):
        yield


@fault(
    "gradients",
    replaces=(clip_grad, "_clip_grads_with_norm_"),
    seen_by=("full[*-full-none]", "lora[*-lora-none]"),
    subtle=True,
)
def clipped_a_little_too_much(
    original: Any,
    parameters: Any,
    max_norm: float,
    total_norm: torch.Tensor,
    foreach: bool | None = None,
) -> None:
    """Add 0.01 to the norm, so that nothing is divided by 0, where 1e-6 was enough."""
    original(parameters, max_norm, total_norm + 0.01, foreach)


@fault(
    "gradients",
    replaces=(nn.Module, "zero_grad"),
    seen_by=("lora[*-lora-none]", "full[*-full-none]"),
)
def last_parameter_not_zeroed(original: Any, model: nn.Module, set_to_none: bool = True) -> None:
    """Leave the gradient of the last trained parameter for the next step to add to."""
    *_, last = [p for p in model.parameters() if p.requires_grad]
    kept = None if last.grad is None else last.grad.clone()
    original(model, set_to_none)
    last.grad = kept


@fault(
    "gradients",
    replaces=(Qwen3MoeTopKRouter, "forward"),
    seen_by=("architectures[*-toy-moe-full]", "same-accumulation-architectures[*-toy-moe-full]"),
)
def routers_get_no_gradient(original: Any, router: Any, hidden: torch.Tensor) -> Any:
    """Cut the weights of experts off from what they are computed from."""
    logits, scores, indices = original(router, hidden)
    return logits, scores.detach(), indices


@fault(
    "accumulation",
    replaces=(Trainer, "_get_num_items_in_batch"),
    seen_by=("accumulation[*-lora-unequal]", "same-accumulation[*-lora-none]"),
)
def tokens_counted_in_the_last_micro_batch(
    original: Any, trainer: Any, batches: list[Any], device: Any
) -> Any:
    """Take the number of tokens in the last micro-batch for that in each of them."""
    return original(trainer, [batches[-1]] * len(batches), device)


@fault(
    "accumulation",
    replaces=(Accelerator, "backward"),
    seen_by=("accumulation[*-lora-unequal]", "same-accumulation[*-lora-none]"),
    subtle=True,
)
def accumulated_in_bfloat16(original: Any, accelerator: Any, loss: Any, **kwargs: Any) -> None:
    """Keep the sum of gradients in bfloat16 between micro-batches."""
    original(accelerator, loss, **kwargs)
    for optimizer in accelerator._optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.copy_(parameter.grad.bfloat16())
