"""Faults inside an adapter's layers: how they start, compute, drop, scale and merge."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from peft.tuners.lora import Linear, LoraLayer
from peft.tuners.lora.dora import DoraLinearLayer
from torch import nn
from torch.nn.functional import dropout
from trl import SFTTrainer

from tunematrix.configuration import Configuration
from tunematrix.faults.catalogue import fault
from tunematrix.faults.patching import replaced

EXCESS = 1.05
LEFT = 0.01


@fault("adapter", replaces=(LoraLayer, "update_layer"))
def alpha_of_a_pattern(original: Any, layer: Any, name: str, *args: Any, **kwargs: Any) -> None:
    """Scale the adapters of layers that narrow by 5 % more than alpha / rank.

    Stands for patterns of alphas that match other layers than their author believes
    (huggingface/peft#3582), and for alphas read off another layer's rank.
    """
    original(layer, name, *args, **kwargs)
    if layer.in_features > layer.out_features:
        layer.scaling[name] *= EXCESS


@fault("adapter", replaces=(LoraLayer, "update_layer"), seen_by=("rank-stabilised[*-lora-none]",))
def root_of_the_rank_forgotten(
    original: Any, layer: Any, name: str, *args: Any, **kwargs: Any
) -> None:
    """Scale a rank-stabilised adapter by alpha / rank, as any other.

    Stands for rslora that is ignored (huggingface/peft#2733).
    """
    original(layer, name, *args, **kwargs)
    layer.scaling[name] = layer.lora_alpha[name] / layer.r[name]


@fault("adapter", replaces=(SFTTrainer, "__init__"))
def one_factor_frozen_again(
    original: Any, trainer: Any, model: Any, *args: Any, **kwargs: Any
) -> None:
    """Freeze the last lora_B as the trainer is made, after the adapter was attached.

    Stands for trainers that prepare for k-bit training a second time and freeze what the adapter
    had unfrozen (huggingface/trl#3926): here in one layer, so that the loss falls all the same.
    """
    seconds = [p for name, p in model.named_parameters() if "lora_B" in name]
    seconds[-1].requires_grad_(False)
    original(trainer, model, *args, **kwargs)


@fault("adapter", replaces=(nn.Dropout, "forward"), seen_by=("dropout[*-lora]",))
def dropout_never_ends(_original: Any, layer: Any, inputs: Any) -> Any:
    """Drop inputs in evaluation as well.

    Stands for adapters whose modules don't follow `eval()`, being no children of the model.
    """
    return dropout(inputs, layer.p, training=True)


@fault("adapter", replaces=(LoraLayer, "update_layer"), seen_by=("dropout[*-lora]",), fitted=True)
def one_layer_without_dropout(
    original: Any, layer: Any, name: str, *args: Any, call: int, **kwargs: Any
) -> None:
    """Give the first adapter of each model no dropout.

    Stands for layers that take their settings from another branch of the code than the rest.
    """
    original(layer, name, *args, **kwargs)
    if call == 1:
        layer.lora_dropout[name] = nn.Identity()


@fault("adapter", replaces=(LoraLayer, "reset_lora_parameters"), fitted=True)
def one_adapter_of_rank_one(original: Any, layer: Any, name: str, *args: Any, call: int) -> None:
    """Start the rows of the first lora_A all alike, so that they stay alike.

    Stands for factors that are broadcast, or sharded, from a single row as they are initialised.
    """
    original(layer, name, *args)
    if call == 1:
        with torch.no_grad():
            rows = layer.lora_A[name].weight
            rows.copy_(rows[:1].expand_as(rows))


@fault(
    "adapter",
    replaces=(LoraLayer, "_cast_input_dtype"),
    seen_by=("lora[*-lora-none]", "same-as-custom-lora[*-none]"),
    fitted=True,
    subtle=True,
)
def inputs_in_half_precision(original: Any, layer: Any, inputs: Any, dtype: Any) -> Any:
    """Round what enters adapters to bfloat16, and compute in float32 again.

    Stands for casts that follow the base's dtype, not the adapter's (huggingface/peft#2889).
    """
    return original(layer, inputs.bfloat16().to(inputs.dtype), dtype)


@fault(
    "adapter",
    replaces=(DoraLinearLayer, "get_weight_norm"),
    seen_by=("dora[*-dora-none]", "merge[*-dora]", "transfer[*-dora]"),
    fitted=True,
)
def dora_norm_of_the_base(
    original: Any, layer: Any, weight: Any, lora_weight: Any, *args: Any, **kwargs: Any
) -> Any:
    """Let DoRA normalise by the norm of the base alone, without the adapter's part.

    Stands for norms that are computed once and kept: at first, while B is zero, they are right.
    """
    return original(layer, weight, torch.zeros_like(lora_weight), *args, **kwargs)


@fault("adapter", seen_by=("dora[*-dora-none]", "merge[*-dora]", "transfer[*-dora]"), fitted=True)
def dora_norm_in_the_gradient(config: Configuration) -> Iterator[None]:
    """Let DoRA's gradient flow through its norm, which the paper holds constant.

    Stands for a `detach` that got lost: losses are right, and gradients another method's.
    """

    def wrap(original: Any) -> Any:
        def computed(layer: Any, *args: Any, **kwargs: Any) -> Any:
            return _undetachable(original(layer, *args, **kwargs))

        return computed

    with (
        replaced(DoraLinearLayer, "get_weight_norm", wrap),
        replaced(DoraLinearLayer, "get_lora_weight", wrap),
    ):
        yield


@fault(
    "adapter",
    replaces=(Linear, "get_delta_weight"),
    seen_by=("merge[*-lora]", "same-loaded[*-toy-llama-lora]"),
    subtle=True,
)
def merged_in_half_precision(original: Any, layer: Any, name: str) -> Any:
    """Round an adapter's product to bfloat16 before it is added to the base.

    Stands for merges in the dtype that a checkpoint was loaded in (huggingface/trl#7268 shows what
    the rounding does to updates).
    """
    product = original(layer, name)
    return product.bfloat16().to(product.dtype)


@fault(
    "adapter", replaces=(Linear, "unmerge"), seen_by=("same-loaded[*-toy-llama-lora]",), subtle=True
)
def unmerged_but_for_a_rest(original: Any, layer: Any) -> None:
    """Leave 1 % of what was merged in the base as it is taken out again.

    Stands for scales that change between merging and unmerging.
    """
    products = [layer.get_delta_weight(name) for name in layer.merged_adapters]
    original(layer)
    for product in products:
        layer.get_base_layer().weight.data += LEFT * product


def _undetachable(tensor: Any) -> Any:
    """Return the tensor, whose `detach` gives itself; `to` may make another of it."""
    cast = tensor.to
    tensor.to = lambda dtype: tensor if tensor.dtype == dtype else _undetachable(cast(dtype))
    tensor.detach = lambda: tensor
    return tensor
