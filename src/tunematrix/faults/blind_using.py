"""Blind faults in generating, in several processes, and in preferences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.nn import utils
from transformers import GenerationMixin, Trainer
from transformers.cache_utils import DynamicLayer
from trl.trainer import dpo_trainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from tunematrix.configuration import Configuration
from tunematrix.faults.catalogue import fault
from tunematrix.faults.patching import replaced

GENERATED = ("generate[*-none]", "generate[*-hqq-int8]")
PREFERRED = ("dpo[*-none-prompt-completion]", "dpo-chat[*-none-chat-completion]")


@fault("generation", replaces=(DynamicLayer, "update"), seen_by=GENERATED, subtle=True)
def keys_cached_in_bfloat16(
    original: Any, layer: Any, keys: torch.Tensor, values: torch.Tensor, *args: Any, **kwargs: Any
) -> Any:
    """Round keys to bfloat16 as they are cached."""
    return original(layer, keys.bfloat16().to(keys.dtype), values, *args, **kwargs)


@fault(
    "generation",
    replaces=(GenerationMixin, "_update_model_kwargs_for_generation"),
    seen_by=GENERATED,
)
def positions_go_on_from_the_widest_prompt(
    original: Any, model: Any, outputs: Any, kwargs: Any, *args: Any, **more: Any
) -> Any:
    """Number new tokens by their column, padding on the left of a prompt included."""
    found = original(model, outputs, kwargs, *args, **more)
    if found.get("position_ids") is not None and found.get("attention_mask") is not None:
        found["position_ids"][..., -1] = found["attention_mask"].shape[1] - 1
    return found


@fault("generation", replaces=(GenerationMixin, "_get_logits_processor"), seen_by=GENERATED)
def repetitions_punished_unasked(
    original: Any, model: Any, generation_config: Any, *args: Any, **kw: Any
) -> Any:
    """Make what a text has already said less likely, by 5 %."""
    generation_config.repetition_penalty = 1.05
    return original(model, generation_config, *args, **kw)


@fault(
    "distribution",
    replaces=(Trainer, "_get_num_items_in_batch"),
    seen_by=("distributed[*-ddp-lora-unequal]", "same-distributed[*-lora]"),
)
def each_process_counts_its_own_tokens(
    original: Any, trainer: Any, batches: list[Any], device: Any
) -> Any:
    """Average the processes' means, however many tokens each of them has."""
    if trainer.args.world_size == 1:
        return original(trainer, batches, device)
    wanted = trainer.args.average_tokens_across_devices
    trainer.args.average_tokens_across_devices = False
    own = original(trainer, batches, device)
    trainer.args.average_tokens_across_devices = wanted
    return None if own is None else own * trainer.args.world_size


@fault(
    "distribution",
    replaces=(utils, "clip_grad_norm_"),
    seen_by=("distributed[*-fsdp-lora-unequal]", "distributed[*-fsdp-full-unequal]"),
)
def each_process_clips_its_own_shard(
    original: Any, parameters: Any, max_norm: float, *args: Any, **kwargs: Any
) -> torch.Tensor:
    """Clip the shards of a gradient by the norm of those that are here."""
    trained = list(parameters)
    shards = [p.grad.to_local() for p in trained if isinstance(p.grad, DTensor)]
    if not shards:
        whole: torch.Tensor = original(trained, max_norm, *args, **kwargs)
        return whole
    norm = torch.stack([shard.norm() for shard in shards]).norm()
    for shard in shards:
        shard.mul_((max_norm / (norm + 1e-6)).clamp(max=1.0))
    return norm


@fault("alignment", replaces=(DataCollatorForPreference, "torch_call"), seen_by=PREFERRED)
def rejected_texts_lose_their_end(original: Any, collator: Any, rows: Any) -> Any:
    """Cut the end token off each rejected completion."""
    return original(collator, [{**row, "rejected_ids": row["rejected_ids"][:-1]} for row in rows])


@fault("alignment", seen_by=PREFERRED, subtle=True)
def preferences_scored_in_bfloat16(config: Configuration) -> Iterator[None]:
    """Round the scores that a pair's loss is computed from to bfloat16."""

    def wrap(functional: Any) -> Any:
        class Rounded:
            def __getattr__(self, name: str) -> Any:
                return getattr(functional, name)

            def logsigmoid(self, scores: torch.Tensor) -> torch.Tensor:
                found: torch.Tensor = functional.logsigmoid(scores.bfloat16()).to(scores.dtype)
                return found

        return Rounded()

    with replaced(dpo_trainer, "F", wrap):
        yield
