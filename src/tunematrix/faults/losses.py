"""Faults in what is made of right labels: the loss's value, and what it is a mean of.

Most sit where SFTTrainer computes log-probabilities, which only its own training passes go through:
evaluations of the harness know nothing of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any

import torch
from transformers import Trainer
from trl.trainer import utils

from tunematrix.faults.catalogue import Config, fault
from tunematrix.faults.patching import replaced

CAP = 20.0
"""Logits of the toy world reach 14."""
SMOOTHED = 0.02


@fault("loss")
def first_positions_counted(config: Config) -> Iterator[None]:
    """Divide by one token more for each row: the first, which nothing predicts.

    Stands for huggingface/transformers#46204.
    """

    def wrap(original: Any) -> Any:
        def count(trainer: Any, batches: Any, device: Any) -> Any:
            counted = original(trainer, batches, device)
            return counted and counted + sum(len(batch["labels"]) for batch in batches)

        return count

    with replaced(Trainer, "_get_num_items_in_batch", wrap):
        yield


@fault("loss", seen_by=("data[*-lora-unequal]", "accumulation[*-lora-unequal]"))
def tokens_of_the_first_step(config: Config) -> Iterator[None]:
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


@fault("loss", seen_by=("data[*-lora-unequal]", "data[*-full-unequal]"))
def mean_of_rows(config: Config) -> Iterator[None]:
    """Count each row alike, however many tokens it has.

    Stands for losses that are averaged within rows first (huggingface/transformers#6968,
    CarperAI/trlx#452).
    """

    def wrap(original: Any) -> Any:
        def output(*, log_probs: Any, label_mask: Any, **fields: Any) -> Any:
            tokens = label_mask.sum(1, keepdim=True).clamp(min=1)
            share = label_mask.sum() / (len(label_mask) * tokens)
            return original(log_probs=log_probs * share, label_mask=label_mask, **fields)

        return output

    with replaced(utils, "FusedCausalLMOutput", wrap):
        yield


@fault("loss")
def shifted_twice(config: Config) -> Iterator[None]:
    """Shift the labels once more inside of the loss: each token learns the next but one.

    Stands for huggingface/transformers#47394 and huggingface/transformers#46897.
    """

    def compute(original: Any, states: Any, weight: Any, bias: Any, labels: Any, *more: Any) -> Any:
        return original(states, weight, bias, labels.roll(-1), *more)

    with _log_probabilities(compute):
        yield


@fault("loss")
def logits_capped(config: Config) -> Iterator[None]:
    """Cap the logits in the loss, though the model knows no cap.

    Stands for fused losses that apply another family's soft cap, or leave out their own
    (linkedin/Liger-Kernel has a setting for it in each of its losses).
    """

    def compute(
        original: Any, states: Any, weight: Any, bias: Any, labels: Any, temperature: Any,
        size: Any, cap: Any, *more: Any,
    ) -> Any:  # fmt: skip
        return original(states, weight, bias, labels, temperature, size, CAP, *more)

    with _log_probabilities(compute):
        yield


@fault("loss")
def labels_smoothed(config: Config) -> Iterator[None]:
    """Mix 2 % of the mean over the vocabulary into each token's log-probability.

    Stands for label smoothing that a default switches on.
    """

    def compute(original: Any, states: Any, weight: Any, *more: Any) -> Any:
        found, *others = original(states, weight, *more)
        even = (states @ weight.T).float().log_softmax(-1).mean(-1)
        return ((1 - SMOOTHED) * found + SMOOTHED * even.view_as(found), *others)

    with _log_probabilities(compute):
        yield


@fault("loss", seen_by=("lora[*-lora-none]", "same-as-custom-lora[*-none]"))
def end_tokens_teach_nothing(config: Config) -> Iterator[None]:
    """Detach the last token of each row from the graph; the loss is the same to the last digit.

    Stands for masks that a fused loss applies to its gradient and not to its value.
    """

    def wrap(original: Any) -> Any:
        def output(*, log_probs: Any, label_mask: Any, **fields: Any) -> Any:
            last = label_mask.int().cumsum(1) == label_mask.sum(1, keepdim=True)
            kept = torch.where(last, log_probs.detach(), log_probs)
            return original(log_probs=kept, label_mask=label_mask, **fields)

        return output

    with replaced(utils, "FusedCausalLMOutput", wrap):
        yield


def _log_probabilities(compute: Callable[..., Any]) -> AbstractContextManager[None]:
    """Let `compute` stand before the function that gives SFTTrainer its log-probabilities.

    That takes hidden states (tokens, hidden), the head's weight and bias, labels (tokens,), a
    temperature, a size of chunks, a cap and a scale of the logits, and the names of its outputs.
    """

    def wrap(original: Any) -> Any:
        return SimpleNamespace(apply=lambda *args: compute(original.apply, *args))

    return replaced(utils, "_ChunkedLogProbFunction", wrap)
