"""Faults in what becomes of settings: they are ignored, or another default overrules them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from peft import LoraConfig
from transformers import TrainingArguments
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRMSNorm

from tunematrix.faults.catalogue import Config, fault
from tunematrix.faults.patching import replaced

Change = Callable[[Any], dict[str, Any]]
"""Takes settings; returns what overrules them, by its name."""
TOLD: dict[str, Any] = {"seed": 42, "limit": 1.0, "alpha": 8, "dropout": 0.1}
"""What libraries take by default, or examples give."""


@fault("configuration")
def seed_of_its_own(config: Config) -> Iterator[None]:
    """Train with seed 42, whichever was given.

    Stands for axolotl-ai-cloud/axolotl#166 and ArrowLuo/CLIP4Clip#108.
    """
    with _arguments(lambda arguments: {"seed": TOLD["seed"]}):
        yield


@fault("configuration")
def batches_halved(config: Config) -> Iterator[None]:
    """Put half as many rows as were asked for into each batch.

    Stands for sizes that mean all devices to one library and each of them to another.
    """
    with _arguments(
        lambda arguments: {
            "per_device_train_batch_size": max(1, arguments.per_device_train_batch_size // 2)
        }
    ):
        yield


@fault("configuration", seen_by=("unclipped[*-full]", "unclipped[*-lora]"))
def limit_of_its_own(config: Config) -> Iterator[None]:
    """Clip gradients to 1, though clipping was turned off.

    Stands for settings of 0 or None that are taken for none given.
    """
    with _arguments(lambda arguments: {"max_grad_norm": arguments.max_grad_norm or TOLD["limit"]}):
        yield


@fault(
    "configuration",
    seen_by=("optimizers[*-full-adamw-constant]", "optimizers[*-full-sgd-constant]"),
)
def decay_ignored(config: Config) -> Iterator[None]:
    """Let nothing decay, though it was asked for.

    Stands for a weight decay that the optimizer's groups overrule.
    """
    with _arguments(lambda arguments: {"weight_decay": 0.0}):
        yield


@fault("configuration", seen_by=("data[*-lora-unequal]", "data[*-full-unequal]"))
def longest_row_halved(config: Config) -> Iterator[None]:
    """Cut rows at half of the length that was asked for.

    Stands for settings of a name that has been given up, and are ignored then: rows are cut at a
    default (unslothai/unsloth#2904).
    """
    with _arguments(lambda arguments: {"max_length": arguments.max_length // 2}):
        yield


@fault("configuration")
def trained_for_an_epoch(config: Config) -> Iterator[None]:
    """Train until the data ends, and not for as many steps as were asked for.

    Stands for two settings of which the other one wins.
    """
    with _arguments(lambda arguments: {"max_steps": -1, "num_train_epochs": 1}):
        yield


@fault("configuration", seen_by=("checkpointing[*-full-none]", "checkpointing[*-lora-none]"))
def checkpointing_ignored(config: Config) -> Iterator[None]:
    """Keep all activations, though they were to be computed again.

    Stands for huggingface/transformers#28022: memory is all that shows it.
    """
    with _arguments(lambda arguments: {"gradient_checkpointing": False}):
        yield


@fault("configuration", seen_by=("dropout[*-lora]",))
def dropout_ignored(config: Config) -> Iterator[None]:
    """Attach adapters without dropout, though it was asked for.

    Stands for meta-pytorch/torchtune#996.
    """
    with _adapters(lambda adapter: {"lora_dropout": 0.0}):
        yield


@fault("configuration", seen_by=("lora[*-lora-none]", "rank-stabilised[*-lora-none]"))
def alpha_of_its_own(config: Config) -> Iterator[None]:
    """Scale adapters by a library's alpha, and not by the one that was asked for.

    Stands for ostris/ai-toolkit#157 and 01-ai/Yi#402.
    """
    with _adapters(lambda adapter: {"lora_alpha": TOLD["alpha"]}):
        yield


@fault("configuration", seen_by=("modules-to-save[*-lora-none]",))
def whole_modules_forgotten(config: Config) -> Iterator[None]:
    """Train no module as a whole, though one was named.

    Stands for lists of modules that are given by another name than the model's, and match nothing.
    """
    with _adapters(lambda adapter: {"modules_to_save": None}):
        yield


@fault(
    "configuration",
    seen_by=("lora[*-lora-none]", "full[*-full-none]", "same-accumulation[*-full-none]"),
)
def attention_dropped_out(config: Config) -> Iterator[None]:
    """Train with dropout in attention, which the model's configuration hasn't.

    Stands for defaults of 0.1 that come with a family's configuration, and that nobody asks about
    (tloen/alpaca-lora#347).
    """

    def wrap(original: Any) -> Any:
        def init(attention: Any, *args: Any, **kwargs: Any) -> None:
            original(attention, *args, **kwargs)
            attention.attention_dropout = TOLD["dropout"]

        return init

    with replaced(LlamaAttention, "__init__", wrap):
        yield


@fault("configuration", seen_by=("lora[*-lora-none]", "full[*-full-none]", "parity[*]"))
def epsilon_of_its_own(config: Config) -> Iterator[None]:
    """Build norms with ten times the epsilon that the checkpoint's configuration names.

    Stands for foundation-model-stack/foundation-model-stack#99 and pytorch/torchtitan#4395.
    """

    def wrap(original: Any) -> Any:
        return lambda norm, size, eps=1e-6: original(norm, size, eps=10 * eps)

    with replaced(LlamaRMSNorm, "__init__", wrap):
        yield


def _arguments(change: Change) -> AbstractContextManager[None]:
    """Overrule fields of the arguments of each Trainer, before they are looked at."""
    return _overruled(TrainingArguments, change)


def _adapters(change: Change) -> AbstractContextManager[None]:
    """Overrule fields of each configuration of adapters, before they are looked at."""
    return _overruled(LoraConfig, change)


def _overruled(owner: Any, change: Change) -> AbstractContextManager[None]:
    def wrap(original: Any) -> Any:
        def post_init(settings: Any) -> None:
            vars(settings).update(change(settings))
            original(settings)

        return post_init

    return replaced(owner, "__post_init__", wrap)
