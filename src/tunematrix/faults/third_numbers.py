"""Faults of a third blind trial: precision, adapters, kernels and settings of models."""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.dora import DoraLinearLayer
from peft.tuners.lora.layer import Linear
from torch import nn
from transformers import masking_utils
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeTopKRouter
from trl import SFTTrainer

from tunematrix.faults.catalogue import fault

TRAINED = ("full[*-full-none]", "lora[*-lora-none]")
MOE = ("architectures-lora[*-toy-moe-lora]", "architectures[*-toy-moe-full]")


@fault("precision", replaces=(nn.Embedding, "forward"), seen_by=TRAINED, subtle=True)
def embeddings_read_in_bfloat16(original: Any, layer: Any, ids: torch.Tensor) -> torch.Tensor:
    """Round what embeddings give to bfloat16.

    Stands for embeddings that are kept in half precision beside layers in float32.
    """
    found: torch.Tensor = original(layer, ids)
    return found.bfloat16().to(found.dtype)


@fault("precision", replaces=(SFTTrainer, "training_step"), seen_by=TRAINED, subtle=True)
def activations_kept_in_bfloat16(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Keep activations for the backward pass in bfloat16; what is computed forward is exact.

    Stands for activations that are offloaded or compressed until they are needed.
    """

    def pack(tensor: torch.Tensor) -> Any:
        # Activations alone have rows, positions and features.
        rounds = tensor.dtype == torch.float32 and tensor.dim() > 2
        return tensor.bfloat16() if rounds else tensor

    def unpack(kept: torch.Tensor) -> torch.Tensor:
        return kept.float() if kept.dtype == torch.bfloat16 and kept.dim() > 2 else kept

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        return original(*args, **kwargs)


@fault(
    "precision",
    replaces=(SFTTrainer, "prediction_step"),
    seen_by=("same-evaluation[*]", "best-loaded[*-full]"),
    subtle=True,
    fitted=True,
)
def evaluated_in_bfloat16(original: Any, trainer: Any, *args: Any, **kwargs: Any) -> Any:
    """Evaluate in bfloat16 what is trained in float32.

    Stands for a setting for evaluations alone (`bf16_full_eval`) that is on by default.
    """
    with torch.autocast(trainer.args.device.type, torch.bfloat16):
        return original(trainer, *args, **kwargs)


@fault("adapter", replaces=(nn.Dropout, "forward"), seen_by=("dropout[*-lora]",))
def one_mask_for_all_tokens(original: Any, layer: Any, values: torch.Tensor) -> torch.Tensor:
    """Drop the same features for all tokens of a row.

    Stands for masks that are drawn in the shape of a vector and spread over a sequence.
    """
    found: torch.Tensor = values * original(layer, torch.ones_like(values[..., :1, :]))
    return found


@fault(
    "adapter",
    replaces=(DoraLinearLayer, "update_layer"),
    seen_by=("dora[*-dora-none]", "dora[*-dora-hqq-int4]"),
    subtle=True,
)
def magnitudes_begin_in_bfloat16(original: Any, layer: Any, **kwargs: Any) -> None:
    """Round the magnitudes that DoRA begins with to bfloat16, so that it begins off the base.

    Stands for norms that are taken of half-precision copies.
    """
    original(layer, **kwargs)
    layer.weight.data = layer.weight.data.bfloat16().to(layer.weight.dtype)


@fault("adapter", replaces=(Linear, "forward"), seen_by=("lora[*-lora-none]", "merge[*-lora]"))
def narrowing_adapters_off_without_autograd(
    original: Any, layer: Any, values: torch.Tensor, *args: Any, **kwargs: Any
) -> Any:
    """Leave out the adapters of layers that narrow wherever no gradient is asked for.

    Stands for a fast path of inference that knows some layers' adapters and forgets the others'.
    """
    if torch.is_grad_enabled() or layer.in_features <= layer.out_features:
        return original(layer, values, *args, **kwargs)
    return layer.base_layer(values, *args, **kwargs)


@fault(
    "architecture",
    replaces=(nn.functional, "gelu"),
    seen_by=("architectures-lora[*-toy-gemma-lora]", "architectures[*-toy-gemma-full]"),
    subtle=True,
    fitted=True,
)
def activation_by_the_other_formula(
    original: Any, values: torch.Tensor, approximate: str = "none"
) -> torch.Tensor:
    """Compute GELU exactly where Gemma was trained with its approximation by tanh.

    Stands for huggingface/transformers#29402, and the same in half a dozen other libraries.
    """
    found: torch.Tensor = original(values)
    return found


@fault("architecture", replaces=(Qwen3MoeTopKRouter, "__init__"), seen_by=MOE, fitted=True)
def weights_of_experts_normalised(original: Any, router: Any, config: Any) -> None:
    """Have the weights of a token's experts add up to 1, though the configuration says not to."""
    original(router, config)
    router.norm_topk_prob = True


@fault(
    "architecture",
    replaces=(masking_utils, "sliding_window_overlay"),
    seen_by=(
        "pairs[*-toy-gemma-unequal-lora-hqq-int8-fp32-adam-constant]",
        "pairs[*-toy-gemma-packed-dora-none-fp32-adam-constant]",
    ),
    subtle=True,
    fitted=True,
)
def window_one_token_wider(original: Any, sliding_window: int) -> Any:
    """Let a sliding window reach one token further than its width says.

    Stands for ml-explore/mlx-lm#390 and huggingface/transformers#34093.
    """
    return original(sliding_window + 1)
