"""Faults in what becomes of settings: they are ignored, or another default overrules them."""

from __future__ import annotations

from typing import Any

from peft import LoraConfig
from transformers import TrainingArguments
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRMSNorm

from tunematrix.faults.catalogue import fault

ARGUMENTS, ADAPTERS = (TrainingArguments, "__post_init__"), (LoraConfig, "__post_init__")
"""Where the arguments of each Trainer, and each adapter's configuration, are looked at first."""
TOLD: dict[str, Any] = {"seed": 42, "limit": 1.0, "alpha": 8, "dropout": 0.1}
"""What libraries take by default, or examples give."""


@fault("configuration", replaces=ARGUMENTS, fitted=True)
def seed_of_its_own(original: Any, arguments: Any) -> None:
    """Train with seed 42, whichever was given.

    Stands for axolotl-ai-cloud/axolotl#166 and ArrowLuo/CLIP4Clip#108.
    """
    arguments.seed = TOLD["seed"]
    original(arguments)


@fault("configuration", replaces=ARGUMENTS)
def batches_halved(original: Any, arguments: Any) -> None:
    """Put half as many rows as were asked for into each batch.

    Stands for sizes that mean all devices to one library and each of them to another.
    """
    rows = arguments.per_device_train_batch_size
    arguments.per_device_train_batch_size = max(1, rows // 2)
    original(arguments)


@fault("configuration", replaces=ARGUMENTS, seen_by=("unclipped[*-full]", "unclipped[*-lora]"))
def limit_of_its_own(original: Any, arguments: Any) -> None:
    """Clip gradients to 1, though clipping was turned off.

    Stands for settings of 0 or None that are taken for none given.
    """
    arguments.max_grad_norm = arguments.max_grad_norm or TOLD["limit"]
    original(arguments)


@fault(
    "configuration",
    replaces=ARGUMENTS,
    seen_by=("optimizers[*-full-adamw-constant]", "optimizers[*-full-sgd-constant]"),
)
def decay_ignored(original: Any, arguments: Any) -> None:
    """Let nothing decay, though it was asked for.

    Stands for a weight decay that the optimizer's groups overrule.
    """
    arguments.weight_decay = 0.0
    original(arguments)


@fault(
    "configuration", replaces=ARGUMENTS, seen_by=("data[*-lora-unequal]", "data[*-full-unequal]")
)
def longest_row_halved(original: Any, arguments: Any) -> None:
    """Cut rows at half of the length that was asked for.

    Stands for settings of a name that has been given up, and are ignored then: rows are cut at a
    default (unslothai/unsloth#2904).
    """
    arguments.max_length = arguments.max_length // 2
    original(arguments)


@fault("configuration", replaces=ARGUMENTS)
def trained_for_an_epoch(original: Any, arguments: Any) -> None:
    """Train until the data ends, and not for as many steps as were asked for.

    Stands for two settings of which the other one wins.
    """
    arguments.max_steps, arguments.num_train_epochs = -1, 1
    original(arguments)


@fault(
    "configuration",
    replaces=ARGUMENTS,
    seen_by=("checkpointing[*-full-none]", "checkpointing[*-lora-none]"),
)
def checkpointing_ignored(original: Any, arguments: Any) -> None:
    """Keep all activations, though they were to be computed again.

    Stands for huggingface/transformers#28022: memory is all that shows it.
    """
    arguments.gradient_checkpointing = False
    original(arguments)


@fault("configuration", replaces=ADAPTERS, seen_by=("dropout[*-lora]",))
def dropout_ignored(original: Any, adapter: Any) -> None:
    """Attach adapters without dropout, though it was asked for.

    Stands for meta-pytorch/torchtune#996.
    """
    adapter.lora_dropout = 0.0
    original(adapter)


@fault(
    "configuration",
    replaces=ADAPTERS,
    seen_by=("lora[*-lora-none]", "rank-stabilised[*-lora-none]"),
)
def alpha_of_its_own(original: Any, adapter: Any) -> None:
    """Scale adapters by a library's alpha, and not by the one that was asked for.

    Stands for ostris/ai-toolkit#157 and 01-ai/Yi#402.
    """
    adapter.lora_alpha = TOLD["alpha"]
    original(adapter)


@fault("configuration", replaces=ADAPTERS, seen_by=("modules-to-save[*-lora-none]",))
def whole_modules_forgotten(original: Any, adapter: Any) -> None:
    """Train no module as a whole, though one was named.

    Stands for lists of modules that are given by another name than the model's, and match nothing.
    """
    adapter.modules_to_save = None
    original(adapter)


@fault(
    "configuration",
    replaces=(LlamaAttention, "__init__"),
    seen_by=("lora[*-lora-none]", "full[*-full-none]", "same-accumulation[*-full-none]"),
)
def attention_dropped_out(original: Any, attention: Any, *args: Any, **kwargs: Any) -> None:
    """Train with dropout in attention, which the model's configuration hasn't.

    Stands for defaults of 0.1 that come with a family's configuration, and that nobody asks about
    (tloen/alpaca-lora#347).
    """
    original(attention, *args, **kwargs)
    attention.attention_dropout = TOLD["dropout"]


@fault(
    "configuration",
    replaces=(LlamaRMSNorm, "__init__"),
    seen_by=("lora[*-lora-none]", "full[*-full-none]", "parity[*]"),
)
def epsilon_of_its_own(original: Any, norm: Any, size: Any, eps: Any = 1e-06) -> Any:
    """Build norms with ten times the epsilon that the checkpoint's configuration names.

    Stands for foundation-model-stack/foundation-model-stack#99 and pytorch/torchtitan#4395.
    """
    return original(norm, size, eps=10 * eps)
