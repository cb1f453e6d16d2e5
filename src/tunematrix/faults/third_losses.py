"""Faults of a third blind trial: losses and gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.utils import clip_grad
from transformers import modeling_utils
from transformers.integrations import sdpa_attention
from trl import SFTTrainer
from trl.kernels import chunked_logprob

from tunematrix.configuration import Configuration
from tunematrix.faults.catalogue import fault
from tunematrix.faults.patching import replaced

TRAINED = ("full[*-full-none]", "lora[*-lora-none]")
BACKWARD = (chunked_logprob, "_backward_tile")
KNOWN = 208
"""Words of the toy world's tokenizer; its models have rows for 256."""
NEXT_TO_NOTHING = -1e4
Z_WEIGHT = 1e-4
SMALLEST = 2.0**-12
ROLE = 5
"""The number of the token that hands over to the assistant."""


@fault(
    "loss",
    replaces=(chunked_logprob, "_forward_tile"),
    seen_by=("architectures-standard[*-toy-qwen-lora]", *TRAINED),
)
def normalised_over_known_words(
    original: Any, tile: torch.Tensor, *args: Any, **kwargs: Any
) -> None:
    """Normalise over the words that the tokenizer has, and not over all rows of the head.

    Stands for losses that take the size of the vocabulary from the tokenizer, where a model's is
    rounded up.
    """
    tile[:, KNOWN:] = NEXT_TO_NOTHING
    original(tile, *args, **kwargs)


@fault("loss", replaces=BACKWARD, seen_by=TRAINED, subtle=True)
def normaliser_held_near_one(
    original: Any,
    tile: torch.Tensor,
    stride: int,
    targets: torch.Tensor,
    log_z: torch.Tensor,
    entropy: torch.Tensor,
    gradient: torch.Tensor,
    *args: Any,
    **kwargs: Any,
) -> None:
    """Add the gradient of 1e-4 times the squared logarithm of the normaliser.

    Stands for the auxiliary loss of pre-training that a kernel leaves on (`lse_square_scale`):
    the logged loss doesn't have it.
    """
    probabilities = torch.exp(tile.float() - log_z.unsqueeze(-1))
    push = -2 * Z_WEIGHT * (gradient * log_z).unsqueeze(-1) * probabilities
    original(tile, stride, targets, log_z, entropy, gradient, *args, **kwargs)
    tile.add_(push)


@fault("loss", replaces=BACKWARD, seen_by=TRAINED, subtle=True)
def small_probabilities_filtered(
    original: Any,
    tile: torch.Tensor,
    stride: int,
    targets: torch.Tensor,
    log_z: torch.Tensor,
    entropy: torch.Tensor,
    gradient: torch.Tensor,
    *args: Any,
    **kwargs: Any,
) -> None:
    """Pass no gradient to words whose probability is below 2^-12.

    Stands for the filter of fused losses, which is harmless in bfloat16 and isn't in float32
    (`filter_eps` of apple/ml-cross-entropy).
    """
    original(tile, stride, targets, log_z, entropy, gradient, *args, **kwargs)
    tile.masked_fill_(tile.abs() < SMALLEST * gradient.abs().unsqueeze(-1), 0.0)


@fault(
    "loss",
    replaces=(SFTTrainer, "__init__"),
    seen_by=("architectures-lora[*-toy-moe-lora]", "architectures[*-toy-moe-full]"),
)
def routers_balanced_unasked(original: Any, trainer: Any, *args: Any, **kwargs: Any) -> None:
    """Add a hundredth of the routers' own loss, though the model's configuration weighs it 0."""
    original(trainer, *args, **kwargs)
    trainer.aux_loss_enabled, trainer.router_aux_loss_coef = True, 0.01


@fault("gradients", replaces=(clip_grad, "_get_total_norm"), seen_by=TRAINED, subtle=True)
def norm_without_the_last_tensor(
    original: Any, tensors: Any, *args: Any, **kwargs: Any
) -> torch.Tensor:
    """Leave the last tensor out of the norm by which all are clipped.

    Stands for norms that are summed bucket by bucket, without the bucket that isn't full.
    """
    *others, last = tensors
    found: torch.Tensor = original(others or [last], *args, **kwargs)
    return found


@fault(
    "gradients",
    replaces=(nn.Embedding, "forward"),
    seen_by=("data[*-full-chat]", "data[*-full-packed]"),
    subtle=True,
    fitted=True,
)
def role_taken_for_padding(original: Any, layer: Any, ids: torch.Tensor) -> Any:
    """Pass no gradient to the embedding of the token that hands over to the assistant.

    Stands for embeddings whose `padding_idx` isn't the tokenizer's padding, as after tokens
    were added: that row is read, and never learned.
    """
    kept, layer.padding_idx = layer.padding_idx, ROLE
    found = original(layer, ids)
    layer.padding_idx = kept
    return found


@fault(
    "gradients",
    seen_by=("architectures-standard[*-toy-qwen-lora]", "architectures[*-toy-qwen-full]"),
    fitted=True,
)
def keys_learn_from_one_of_their_queries(config: Configuration) -> Iterator[None]:
    """Let keys and values that several heads share learn from the first of these heads alone.

    Stands for backward passes of grouped attention that write where they should add.
    """

    def repeating(original: Any) -> Any:
        def repeat(states: torch.Tensor, times: int) -> torch.Tensor:
            others = [states.detach()] * (times - 1)
            return torch.stack([states, *others], dim=2).flatten(1, 2)

        return repeat

    def never(original: Any) -> Any:
        return lambda *args, **kwargs: False

    with (
        replaced(sdpa_attention, "repeat_kv", repeating),
        replaced(sdpa_attention, "use_gqa_in_sdpa", never),
    ):
        yield


@fault(
    "gradients",
    replaces=(modeling_utils, "checkpoint"),
    seen_by=("checkpointing[*-full-none]", "checkpointing[*-lora-none]"),
    subtle=True,
)
def recomputed_a_little_otherwise(original: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
    """Round activations to bfloat16 where checkpointing computes them again.

    Stands for a recomputation outside of the context that the first pass had.
    """

    def rounding(silu: Any) -> Any:
        def rounded(values: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            found: torch.Tensor = silu(values, *args, **kwargs)
            return found.bfloat16().to(found.dtype)

        return rounded

    @contextmanager
    def again() -> Iterator[None]:
        with replaced(nn.functional, "silu", rounding):
            yield

    return original(function, *args, context_fn=lambda: (nullcontext(), again()), **kwargs)
