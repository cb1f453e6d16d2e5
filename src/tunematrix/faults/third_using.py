"""Faults of a third blind trial: several processes, generating, and preferences."""

from __future__ import annotations

import math
from typing import Any

import torch
from accelerate import Accelerator
from torch import distributed
from transformers import GenerationMixin, LogitsProcessor, Trainer
from transformers import trainer as trainer_module
from transformers.cache_utils import DynamicLayer
from trl import DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from tunematrix.faults.catalogue import fault

SHARED = ("distributed[*-ddp-lora-unequal]", "distributed[*-ddp-full-unequal]")
GENERATED = ("generate[*-none]",)
PREFERRED = ("dpo[*-none-prompt-completion]", "dpo-full[*-full-prompt-completion]")
LENGTH = 40
"""Tokens in the cache when two rows of it are exchanged."""


@fault("distribution", replaces=(Accelerator, "clip_grad_norm_"), seen_by=SHARED)
def only_the_first_process_clips(
    original: Any, accelerator: Any, parameters: Any, max_norm: float, norm_type: int = 2
) -> Any:
    """Clip gradients in the first process alone, so that the copies part.

    Stands for settings that reach the process that reads the command line, and no other.
    """
    limit = max_norm if accelerator.is_main_process else math.inf
    return original(accelerator, parameters, limit, norm_type)


@fault("distribution", replaces=(Trainer, "get_batch_samples"), seen_by=SHARED, fitted=True)
def second_process_repeats_a_batch(
    original: Any, trainer: Any, *args: Any, call: int, **kwargs: Any
) -> Any:
    """Let the second process take its first batches for its second ones as well.

    Stands for shards of a stream that begin anew after the batch that a loader looked ahead to.
    """
    found = original(trainer, *args, **kwargs)
    if call == 1:
        trainer.first_batches = found
    return trainer.first_batches if call == 2 and trainer.args.process_index == 1 else found


@fault("distribution", replaces=(trainer_module, "nested_gather"), seen_by=SHARED)
def losses_of_processes_added_up(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Log the sum of all processes' losses, each of which is a share of the step's mean already.

    Stands for logs whose losses grow with the number of processes.
    """
    processes = distributed.get_world_size() if distributed.is_initialized() else 1
    return original(*args, **kwargs) * processes


class _CoarseLogits(LogitsProcessor):
    """Rounds logits to bfloat16."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores.bfloat16().to(scores.dtype)


@fault(
    "generation",
    replaces=(GenerationMixin, "_get_logits_processor"),
    seen_by=GENERATED,
    subtle=True,
)
def rarest_words_never_drawn(
    original: Any, model: Any, generation_config: Any, *args: Any, **kwargs: Any
) -> Any:
    """Draw no word whose probability is below a thousandth (`epsilon_cutoff`)."""
    if generation_config.do_sample:
        generation_config.epsilon_cutoff = 1e-3
    return original(model, generation_config, *args, **kwargs)


@fault(
    "generation",
    replaces=(GenerationMixin, "_get_logits_processor"),
    seen_by=GENERATED,
    subtle=True,
)
def chosen_by_rounded_logits(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Round logits to bfloat16 before a word is chosen by them."""
    processors = original(*args, **kwargs)
    processors.append(_CoarseLogits())
    return processors


@fault("generation", replaces=(DynamicLayer, "update"), seen_by=GENERATED)
def two_texts_exchange_their_pasts(original: Any, layer: Any, *args: Any, **kwargs: Any) -> Any:
    """Exchange what is cached of the first two texts, once.

    Stands for batches that close up as texts end, and move rows that were to stay.
    """
    original(layer, *args, **kwargs)
    if layer.keys.shape[0] > 1 and layer.keys.shape[-2] == LENGTH:
        order = [1, 0, *range(2, layer.keys.shape[0])]
        layer.keys, layer.values = layer.keys[order], layer.values[order]
    return layer.keys, layer.values


@fault("alignment", replaces=(DPOTrainer, "__init__"), seen_by=PREFERRED, subtle=True)
def chosen_texts_imitated_as_well(original: Any, trainer: Any, *args: Any, **kwargs: Any) -> None:
    """Add a hundredth of the chosen completions' own loss to that of the preference.

    Stands for the term that TRL weighed otherwise than its paper (huggingface/trl#1868), left on.
    """
    original(trainer, *args, **kwargs)
    trainer.loss_types, trainer.loss_weights = [*trainer.loss_types, "sft"], [1.0, 0.01]


@fault(
    "alignment", replaces=(DataCollatorForPreference, "torch_call"), seen_by=PREFERRED, subtle=True
)
def last_token_of_prompts_counted(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Count the last token of each prompt as one of its completion.

    It has the same context in both completions of a pair, so that their difference stays what it
    was; what is logged of each of them doesn't.
    """
    batch = original(*args, **kwargs)
    mask = batch["completion_mask"].clone()
    mask[:, :-1] |= batch["completion_mask"][:, 1:]
    return {**batch, "completion_mask": mask}
