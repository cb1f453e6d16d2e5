"""Blind faults in optimizers, schedules and the dtypes that are computed in."""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTuner
from torch.optim import Adam, AdamW
from transformers import optimization
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from tunematrix.faults.catalogue import fault


@fault(
    "optimizer",
    replaces=(AdamW, "step"),
    seen_by=("full[*-full-none]", "lora[*-lora-none]"),
    subtle=True,
)
def epsilon_of_another_library(original: Any, optimizer: Any, closure: Any = None) -> Any:
    """Divide by the root plus 1e-6, whatever epsilon was asked for."""
    asked = [group["eps"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["eps"] = 1e-6
    found = original(optimizer, closure)
    for group, eps in zip(optimizer.param_groups, asked, strict=True):
        group["eps"] = eps
    return found


@fault(
    "optimizer",
    replaces=(AdamW, "step"),
    seen_by=("optimizers[*-full-adamw-linear]", "optimizers[*-full-adamw-cosine]"),
    subtle=True,
)
def decay_by_the_first_rate(original: Any, optimizer: Any, closure: Any = None) -> Any:
    """Decay weights by the rate that was asked for, and not by the scheduled one."""
    found = original(optimizer, closure)
    with torch.no_grad():
        for group in optimizer.param_groups:
            first = group.get("initial_lr", group["lr"])
            factor = (1 - first * group["weight_decay"]) / (1 - group["lr"] * group["weight_decay"])
            for parameter in group["params"]:
                parameter.mul_(factor)
    return found


@fault("optimizer", replaces=(Adam, "step"), seen_by=("optimizers[*-full-adam-constant]",))
def adam_decays_as_adamw(original: Any, optimizer: Any, closure: Any = None) -> Any:
    """Decay the weights themselves in Adam, where decay belongs into the gradient."""
    kept = [group["decoupled_weight_decay"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["decoupled_weight_decay"] = True
    found = original(optimizer, closure)
    for group, own in zip(optimizer.param_groups, kept, strict=True):
        group["decoupled_weight_decay"] = own
    return found


@fault(
    "optimizer",
    replaces=(AdamW, "step"),
    seen_by=("full[*-full-none]", "lora[*-lora-none]"),
    subtle=True,
)
def second_moments_kept_in_bfloat16(original: Any, optimizer: Any, closure: Any = None) -> Any:
    """Round second moments to bfloat16 after each step."""
    found = original(optimizer, closure)
    for state in optimizer.state.values():
        state["exp_avg_sq"].copy_(state["exp_avg_sq"].bfloat16())
    return found


@fault(
    "scheduler",
    replaces=(optimization, "_get_cosine_schedule_with_warmup_lr_lambda"),
    seen_by=("schedules[*-lora-cosine]", "optimizers[*-full-adamw-cosine]"),
)
def cosine_ends_a_step_early(original: Any, current_step: int, **kwargs: Any) -> float:
    """Reach the end of the half wave one step before the last."""
    kwargs["num_training_steps"] -= 1
    return float(original(min(current_step, kwargs["num_training_steps"]), **kwargs))


@fault(
    "scheduler",
    replaces=(optimization, "_get_constant_schedule_with_warmup_lr_lambda"),
    seen_by=("optimizers[*-full-adamw-constant]", "optimizers[*-full-sgd-constant]"),
)
def warm_up_begins_a_step_ahead(original: Any, current_step: int, **kwargs: Any) -> float:
    """Begin to warm up with the second step's rate."""
    return float(original(current_step + 1, **kwargs))


@fault(
    "precision",
    replaces=(LlamaRotaryEmbedding, "forward"),
    seen_by=("parity[*]", "full[*-full-none]"),
    subtle=True,
)
def rotary_angles_in_bfloat16(original: Any, module: Any, x: Any, position_ids: Any) -> Any:
    """Round the sines and cosines of positions to bfloat16."""
    return tuple(one.bfloat16().to(one.dtype) for one in original(module, x, position_ids))


@fault(
    "precision",
    replaces=(BaseTuner, "_cast_adapter_dtype"),
    seen_by=("bf16[*-lora-none-bf16]", "fp16[*-lora-fp16]"),
)
def adapters_in_the_dtype_of_the_base(
    original: Any, tuner: Any, adapter_name: str, autocast_adapter_dtype: bool = True
) -> None:
    """Leave adapters in half precision where the base is."""
    original(tuner, adapter_name, autocast_adapter_dtype=False)
