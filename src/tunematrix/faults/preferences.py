"""Faults in what DPO holds a policy against, and in which gradient its loss leaves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import torch
from torch.nn import functional
from torch.optim.optimizer import register_optimizer_step_post_hook
from trl import DPOTrainer
from trl.trainer import dpo_trainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from tunematrix.configuration import Configuration
from tunematrix.faults.catalogue import fault
from tunematrix.faults.patching import replaced

EXCESS = 1.1
SMOOTHING = 0.05
UNEQUAL = ("dpo-unequal[*-none-prompt-completion]",)


@fault("alignment")
def reference_follows(config: Configuration) -> Iterator[None]:
    """Leave the adapter on for the reference from the third step on.

    Stands for references that are the policy itself (huggingface/trl#1340 has another that isn't
    what training began with): the first loss is ln 2, as it should be.
    """

    def wrap(original: Any) -> Any:
        def use(model: Any, adapter_name: Any) -> Any:
            return nullcontext() if stepped() >= 2 else original(model, adapter_name)

        return use

    with _counting_steps() as stepped, replaced(dpo_trainer, "use_adapter", wrap):
        yield


@fault("alignment", replaces=(dpo_trainer, "use_adapter"), subtle=True)
@contextmanager
def reference_in_half_precision(original: Any, model: Any, adapter_name: Any) -> Iterator[None]:
    """Compute the reference's log-probabilities in bfloat16.

    Stands for references that are loaded in another dtype than the policy.
    """
    with torch.autocast("cpu", torch.bfloat16), original(model, adapter_name):
        yield


@fault(
    "alignment", replaces=(DPOTrainer, "__init__"), seen_by=("dpo-full[*-full-prompt-completion]",)
)
def reference_shares_a_tensor(original: Any, trainer: Any, *args: Any, **kwargs: Any) -> None:
    """Let the reference model read its embeddings off the policy.

    Stands for copies that aren't deep: tied tensors, and modules that a loader caches.
    """
    original(trainer, *args, **kwargs)
    shared = trainer.model.get_input_embeddings().weight
    trainer.ref_model.get_input_embeddings().weight = shared


@fault("alignment", replaces=(DPOTrainer, "__init__"))
def beta_of_another_run(original: Any, trainer: Any, *args: Any, **kwargs: Any) -> None:
    """Weigh the distance to the reference by a beta that is a tenth too large.

    Stands for settings that a trainer reads before they are overridden.
    """
    original(trainer, *args, **kwargs)
    trainer.beta *= EXCESS


@fault("alignment")
def labels_smoothed(config: Configuration) -> Iterator[None]:
    """Take one preference in twenty for the opposite, as conservative DPO does.

    Stands for a label_smoothing that is left on: the first loss is ln 2 all the same.
    """

    def wrap(original: Any) -> Any:
        def logsigmoid(margins: Any) -> Any:
            right, wrong = functional.logsigmoid(margins), functional.logsigmoid(-margins)
            return (1 - SMOOTHING) * right + SMOOTHING * wrong

        return SimpleNamespace(**{**vars(functional), "logsigmoid": logsigmoid})

    with replaced(dpo_trainer, "F", wrap):
        yield


@fault("alignment")
def rejected_without_gradient(config: Configuration) -> Iterator[None]:
    """Detach the rejected log-probabilities from the second step on; the loss stays the right one.

    Stands for halves of a batch that are computed apart, one of them without autograd.
    """

    def wrap(original: Any) -> Any:
        def compute(trainer: Any, model: Any, inputs: Any, return_outputs: Any) -> Any:
            with replaced(torch.Tensor, "chunk", halved if stepped() else lambda chunk: chunk):
                return original(trainer, model, inputs, return_outputs)

        return compute

    def halved(original: Any) -> Any:
        def chunk(tensor: Any, count: int, dim: int = 0) -> Any:
            first, *others = original(tensor, count, dim)
            scores = tensor.dim() == 1 and tensor.requires_grad
            return (first, *(other.detach() if scores else other for other in others))

        return chunk

    with _counting_steps() as stepped, replaced(DPOTrainer, "_compute_loss", wrap):
        yield


@fault(
    "alignment",
    replaces=(DPOTrainer, "training_step"),
    seen_by=("dpo-accumulation[*-lora-prompt-completion]",),
)
def micro_batches_added_up(original: Any, trainer: Any, *args: Any, **kwargs: Any) -> Any:
    """Add the gradients of micro-batches up, under a loss that is logged as their mean.

    Stands for huggingface/trl#2615.
    """
    count = trainer.current_gradient_accumulation_steps
    trainer.current_gradient_accumulation_steps = 1
    loss = original(trainer, *args, **kwargs)
    trainer.current_gradient_accumulation_steps = count
    return loss / count


@fault("alignment", replaces=(DataCollatorForPreference, "torch_call"))
def rejected_end_not_counted(original: Any, collator: Any, examples: Any) -> Any:
    """Leave the end token of rejected completions out of their log-probability.

    Stands for end tokens that are taken for padding (huggingface/trl#1623), in one half of a pair.
    """
    batch = original(collator, examples)
    mask = batch["completion_mask"]
    ends = batch["attention_mask"].sum(dim=1) - 1
    for row in range(len(mask) // 2, len(mask)):
        mask[row, ends[row]] = 0
    return batch


@fault("alignment", replaces=(DataCollatorForPreference, "torch_call"))
def one_pair_the_wrong_way_round(original: Any, collator: Any, examples: Any) -> Any:
    """Swap chosen and rejected in the last pair of each batch.

    Stands for preferences whose order a join or a shuffle has lost in some rows.
    """
    *right, last = examples
    wrong = {**last, "chosen_ids": last["rejected_ids"], "rejected_ids": last["chosen_ids"]}
    return original(collator, [*right, wrong])


@contextmanager
def _counting_steps() -> Iterator[Any]:
    """Yield what returns the number of optimizer steps so far."""
    steps = 0

    def after(*_: object) -> None:
        nonlocal steps
        steps += 1

    handle = register_optimizer_step_post_hook(after)
    try:
        yield lambda: steps
    finally:
        handle.remove()


@fault("alignment", replaces=(DataCollatorForPreference, "torch_call"), seen_by=UNEQUAL)
def mask_of_the_other_side(original: Any, collator: Any, examples: Any) -> Any:
    """Give the rejected half of a batch the attention mask of the chosen one.

    Stands for collators that pad both sides by the lengths of one; of equal ones, it changes
    nothing.
    """
    batch = original(collator, examples)
    chosen, _ = batch["attention_mask"].chunk(2)
    batch["attention_mask"] = torch.cat([chosen, chosen])
    return batch


@fault("alignment", replaces=(DataCollatorForPreference, "torch_call"), seen_by=UNEQUAL)
def longer_side_cut(original: Any, collator: Any, examples: Any) -> Any:
    """Cut each pair's longer completion to the length of the other.

    Stands for limits that are taken from one side.
    """
    even = []
    for example in examples:
        length = min(len(example["chosen_ids"]), len(example["rejected_ids"]))
        sides = {side: example[side][:length] for side in ("chosen_ids", "rejected_ids")}
        even.append({**example, **sides})
    return original(collator, even)


@fault("alignment", replaces=(DPOTrainer, "__init__"), seen_by=UNEQUAL, subtle=True)
def tail_of_the_longer_side_lighter(original: Any, trainer: Any, *args: Any, **kwargs: Any) -> None:
    """Count what the longer side has more by 99 %, though nobody asked for a desensitised loss.

    Stands for `ld_alpha` (arXiv 2409.06411), where a preset has it.
    """
    original(trainer, *args, **kwargs)
    trainer.ld_alpha = 0.99
