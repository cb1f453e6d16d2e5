"""Blind faults in adapters: how they begin, compute, merge, and are saved and loaded."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, peft_model
from peft.tuners.lora.dora import DoraLinearLayer
from peft.tuners.lora.layer import Linear, LoraLayer
from peft.utils import save_and_load
from peft.utils.integrations import dequantize_module_weight
from peft.utils.other import transpose
from torch import nn
from torch.nn import functional
from transformers import modeling_utils

from tunematrix.faults.catalogue import fault


@fault(
    "adapter",
    replaces=(LoraLayer, "reset_lora_parameters"),
    seen_by=("lora[*-lora-none]", "dora[*-dora-none]"),
    fitted=True,
)
def first_factor_drawn_too_wide(original: Any, layer: Any, name: str, init: Any) -> None:
    """Draw the first factor as for a rectifier (a=0), and not as a linear layer's (a=√5)."""
    original(layer, name, init)
    if name in layer.lora_A:
        with torch.no_grad():
            layer.lora_A[name].weight.mul_(6**0.5)


@fault(
    "adapter",
    replaces=(LoraLayer, "update_layer"),
    seen_by=("modules-to-save[*-lora-none]", "modules-to-save[*-lora-bnb-nf4]"),
)
def scaled_by_the_usual_rank(
    original: Any, layer: Any, adapter_name: str, r: int, lora_alpha: int, config: Any, **kw: Any
) -> None:
    """Divide alpha by the rank that most layers have, also where a pattern gives another."""
    original(layer, adapter_name, r, lora_alpha=lora_alpha, config=config, **kw)
    if r != config.r:
        layer.scaling[adapter_name] = lora_alpha / config.r


@fault("adapter", replaces=(DoraLinearLayer, "forward"), seen_by=("dora[*-dora-none]",))
def gradient_through_the_norm(
    original: Any,
    layer: Any,
    x: torch.Tensor,
    *,
    lora_A: Any,  # noqa: N803
    lora_B: Any,  # noqa: N803
    scaling: float,
    base_layer: Any,
    base_result: Any = None,
    adapter_name: str = "default",
) -> torch.Tensor:
    """Let gradients of DoRA through the weights' norm, which its paper holds constant."""
    product = layer.get_lora_weight(lora_A=lora_A, lora_B=lora_B, adapter_name=adapter_name)
    weight = dequantize_module_weight(base_layer).to(x.dtype)
    norm = layer.get_weight_norm(
        weight=weight, lora_weight=product.to(x.dtype), scaling=scaling, adapter_name=adapter_name
    )
    scale = (layer.weight / norm).view(1, -1)
    if base_result is None:
        base_result = functional.linear(x, transpose(weight, layer.fan_in_fan_out))
    elif base_layer.bias is not None:
        base_result = base_result - base_layer.bias
    found: torch.Tensor = (scale - 1) * base_result + scale * lora_B(lora_A(x)) * scaling
    return found


@fault("adapter", replaces=(LoraLayer, "update_layer"), seen_by=("dropout[*-lora]",))
def little_dropout_is_none(
    original: Any, layer: Any, adapter_name: str, r: int, lora_alpha: int, config: Any, **kw: Any
) -> None:
    """Drop nothing out where a tenth or less was asked for."""
    original(layer, adapter_name, r, lora_alpha=lora_alpha, config=config, **kw)
    if config.lora_dropout <= 0.1:
        layer.lora_dropout[adapter_name] = nn.Identity()


@fault(
    "adapter",
    replaces=(Linear, "get_delta_weight"),
    seen_by=("merge[*-lora]", "same-loaded[*-toy-llama-lora]"),
    subtle=True,
)
def merged_in_bfloat16(original: Any, layer: Any, adapter: str) -> torch.Tensor:
    """Round what is merged into a weight to bfloat16."""
    found: torch.Tensor = original(layer, adapter)
    return found.bfloat16().to(found.dtype)


@fault(
    "adapter",
    replaces=(peft_model, "safe_save_file"),
    seen_by=("lora[*-lora-none]", "merge[*-lora]"),
    subtle=True,
)
def adapters_saved_in_float16(
    original: Any, tensors: dict[str, torch.Tensor], *args: Any, **kwargs: Any
) -> None:
    """Write adapters in half precision to save space."""
    original({name: tensor.half() for name, tensor in tensors.items()}, *args, **kwargs)


@fault("adapter", replaces=(LoraConfig, "to_dict"), seen_by=("rank-stabilised[*-lora-none]",))
def rank_stabilising_not_saved(original: Any, config: Any) -> dict[str, Any]:
    """Forget in the saved settings that adapters are scaled by the root of their rank."""
    found: dict[str, Any] = original(config)
    return {**found, "use_rslora": False}


@fault(
    "checkpoint",
    replaces=(modeling_utils, "safe_save_file"),
    seen_by=("full[*-full-none]", "same-loaded-full[*-toy-llama-full]"),
    subtle=True,
)
def norms_saved_in_bfloat16(
    original: Any, tensors: dict[str, torch.Tensor], *args: Any, **kwargs: Any
) -> None:
    """Round vectors, which are the weights of norms, to bfloat16 as a checkpoint is written."""
    rounded = {
        name: tensor.bfloat16().to(tensor.dtype) if tensor.dim() == 1 else tensor
        for name, tensor in tensors.items()
    }
    original(rounded, *args, **kwargs)


@fault(
    "checkpoint",
    replaces=(save_and_load, "safe_load_file"),
    seen_by=("lora[*-lora-none]", "merge[*-lora]"),
    subtle=True,
)
def one_number_lost_in_loading(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Read 0 for the first number of an adapter's file, as a header that is too long does."""
    tensors = original(*args, **kwargs)
    first = min(tensors)
    tensors[first] = tensors[first].clone()
    tensors[first].view(-1)[0] = 0
    return tensors
