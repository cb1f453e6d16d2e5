"""Faults in what is made of right labels: the loss's value, and what it is a mean of.

Most sit where SFTTrainer computes log-probabilities, which only its own training passes go through:
evaluations of the harness know nothing of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from transformers import Trainer, TrainingArguments
from transformers.trainer_pt_utils import LabelSmoother
from trl.trainer import utils
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from tunematrix.configuration import Configuration
from tunematrix.faults.catalogue import fault
from tunematrix.faults.patching import replaced

LOG_PROBABILITIES = (utils._ChunkedLogProbFunction, "apply")
"""What gives SFTTrainer its log-probabilities.

It takes hidden states (tokens, hidden), the head's weight and bias, labels (tokens,), a
temperature, a size of chunks, a cap and a scale of the logits, and the names of its outputs.
"""
CAP = 20.0
"""Logits of the toy world reach 14."""
SMOOTHED = 0.02
PRESET = 0.1
REWARD = 0.01


@fault("loss", replaces=(Trainer, "_get_num_items_in_batch"))
def first_positions_counted(original: Any, trainer: Any, batches: Any, device: Any) -> Any:
    """Divide by one token more for each row: the first, which nothing predicts.

    Stands for huggingface/transformers#46204.
    """
    counted = original(trainer, batches, device)
    return counted and counted + sum(len(batch["labels"]) for batch in batches)


@fault("loss", seen_by=("data[*-lora-unequal]", "accumulation[*-lora-unequal]"))
def tokens_of_the_first_step(config: Configuration) -> Iterator[None]:
    """Divide each step's loss by the number of tokens that the first step had.

    Stands for a divisor that is computed once and kept, where rows are of unequal length.
    """
    kept: list[Any] = []

    def wrap(original: Any) -> Any:
        def count(trainer: Any, batches: Any, device: Any) -> Any:
            kept.append(original(trainer, batches, device))
            return kept[0]

        return count

    with replaced(Trainer, "_get_num_items_in_batch", wrap):
        yield


@fault(
    "loss",
    replaces=(utils, "FusedCausalLMOutput"),
    seen_by=("data[*-lora-unequal]", "data[*-full-unequal]"),
)
def mean_of_rows(original: Any, *, log_probs: Any, label_mask: Any, **fields: Any) -> Any:
    """Count each row alike, however many tokens it has.

    Stands for losses that are averaged within rows first (huggingface/transformers#6968,
    CarperAI/trlx#452).
    """
    tokens = label_mask.sum(1, keepdim=True).clamp(min=1)
    share = label_mask.sum() / (len(label_mask) * tokens)
    return original(log_probs=log_probs * share, label_mask=label_mask, **fields)


@fault("loss", replaces=LOG_PROBABILITIES)
def shifted_twice(
    original: Any, states: Any, weight: Any, bias: Any, labels: Any, *more: Any
) -> Any:
    """Shift the labels once more inside of the loss: each token learns the next but one.

    Stands for huggingface/transformers#47394 and huggingface/transformers#46897.
    """
    return original(states, weight, bias, labels.roll(-1), *more)


@fault("loss", replaces=LOG_PROBABILITIES)
def logits_capped(original: Any, *args: Any) -> Any:
    """Cap the logits in the loss, though the model knows no cap.

    Stands for fused losses that apply another family's soft cap, or leave out their own
    (linkedin/Liger-Kernel has a setting for it in each of its losses).
    """
    return original(*args[:6], CAP, *args[7:])


@fault("loss", replaces=LOG_PROBABILITIES)
def labels_smoothed(original: Any, states: Any, weight: Any, *more: Any) -> Any:
    """Mix 2 % of the mean over the vocabulary into each token's log-probability.

    Stands for label smoothing that a default switches on.
    """
    found, *others = original(states, weight, *more)
    even = (states @ weight.T).float().log_softmax(-1).mean(-1)
    return ((1 - SMOOTHED) * found + SMOOTHED * even.view_as(found), *others)


@fault(
    "loss",
    replaces=(utils, "FusedCausalLMOutput"),
    seen_by=("lora[*-lora-none]", "same-as-custom-lora[*-none]"),
)
def end_tokens_teach_nothing(
    original: Any, *, log_probs: Any, label_mask: Any, **fields: Any
) -> Any:
    """Detach the last token of each row from the graph; the loss is the same to the last digit.

    Stands for masks that a fused loss applies to its gradient and not to its value.
    """
    last = label_mask.int().cumsum(1) == label_mask.sum(1, keepdim=True)
    kept = torch.where(last, log_probs.detach(), log_probs)
    return original(log_probs=kept, label_mask=label_mask, **fields)


@fault("loss", replaces=(TrainingArguments, "__post_init__"))
def smoothing_switched_on(original: Any, arguments: Any) -> None:
    """Train with the label smoothing of 0.1 that a preset brings along."""
    arguments.label_smoothing_factor = PRESET
    original(arguments)


@fault("loss", replaces=LOG_PROBABILITIES)
def confidence_rewarded(original: Any, states: Any, weight: Any, *more: Any) -> Any:
    """Add a hundredth of the distribution's entropy to each log-probability.

    Stands for the confidence penalty, a relative of label smoothing that some losses come with.
    """
    found, *others = original(states, weight, *more)
    logs = (states @ weight.T).float().log_softmax(-1)
    return (found + REWARD * -(logs.exp() * logs).sum(-1).view_as(found), *others)


@fault("loss", replaces=(DataCollatorForLanguageModeling, "torch_call"))
def rows_joined_before_the_shift(original: Any, collator: Any, examples: Any) -> Any:
    """Lay the rows of a batch end to end: each row's first word is predicted from the row before.

    Stands for batches that are flattened first, and shifted then; padding is gone, and so are the
    borders between texts.
    """
    batch = original(collator, examples)
    real = batch["attention_mask"].bool() if "attention_mask" in batch else slice(None)
    ids, labels = batch["input_ids"][real].reshape(1, -1), batch["labels"][real].reshape(1, -1)
    return {"input_ids": ids, "labels": labels, "attention_mask": torch.ones_like(ids)}


SMOOTHING = ("smoothing[*-lora]",)


@fault("loss", replaces=(LabelSmoother, "__call__"), seen_by=SMOOTHING)
def smoothing_forgotten(original: Any, smoother: Any, *args: Any, **kwargs: Any) -> Any:
    """Take the labels as they are, though smoothing was asked for.

    Stands for trainers whose own loss never looks at the setting.
    """
    smoother.epsilon = 0.0
    return original(smoother, *args, **kwargs)


@fault("loss", replaces=(LabelSmoother, "__call__"), seen_by=SMOOTHING)
def smoothing_of_every_micro_batch(
    original: Any, smoother: Any, *args: Any, num_items_in_batch: Any = None, **kwargs: Any
) -> Any:
    """Divide the smoothed loss by the tokens of each micro-batch, and not by those of the step.

    What Trainer did until transformers 5.15, which has `num_items_in_batch` for it.
    """
    return original(smoother, *args, **kwargs)


@fault("loss", replaces=(LabelSmoother, "__call__"), seen_by=SMOOTHING)
def smoothing_spread_over_other_tokens(
    original: Any, smoother: Any, *args: Any, **kwargs: Any
) -> Any:
    """Spread the share over all tokens but the right one, as another convention has it."""
    smoother.epsilon *= 1.01
    return original(smoother, *args, **kwargs)
