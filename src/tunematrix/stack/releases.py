"""What releases of torch, transformers and TRL call things: our words in, those of each out.

Old releases are run to see whether the checks notice their faults. Nothing here asks for a version:
a signature, a field or an attribute says what a release can do. What it can't is refused by name.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import Any

import torch
import transformers
from torch import nn
from transformers import PretrainedConfig

RENAMED = {"max_length": "max_seq_length"}
"""Fields of TRL's configurations as they are called now, and what they were called before."""
IDLE = {"completion_only_loss": (None, False), "assistant_only_loss": (False,)}
"""Values of newer fields that ask for nothing, so that a release without the field obeys them."""
TEXT = "text"
"""The column of a dataset with texts, which older releases have to be told."""
IGNORED = -100
_COMPLETIONS, _COUNTED = "_tunematrix_completions", "_tunematrix_counted"
_LABELS = "_tunematrix_labels"
"""Where a model keeps how long each completion is, or which positions of a batch are of one."""


@cache
def dtype_keyword() -> str:
    """Return what `from_pretrained` calls the dtype that it loads weights in."""
    return "dtype" if hasattr(PretrainedConfig(), "dtype") else "torch_dtype"


def settings_of(config: type, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments of one of TRL's configuration classes, by the names that this release has.

    Raises:
        ValueError: it lacks a field, and what was wanted isn't what it does anyhow.
    """
    known = {field.name for field in fields(config)}
    found: dict[str, Any] = {}
    for name, value in wanted.items():
        if name in known:
            found[name] = value
        elif RENAMED.get(name) in known:
            found[RENAMED[name]] = value
        elif value not in IDLE.get(name, ()):
            raise refused(config, f"{name}={value}")
    if wanted.get("packing") and "packing_strategy" not in known:
        raise refused(config, "packing that keeps texts whole")
    if "dataset_text_field" in known:
        found["dataset_text_field"] = TEXT
    return found


def arguments_of(
    trainer: type, tokenizer: object, optimizer: tuple[type, dict[str, Any]]
) -> dict[str, Any]:
    """Return how a trainer's constructor takes the tokenizer, and the optimizer where it does."""
    known = inspect.signature(trainer).parameters
    # A constructor that somebody has wrapped may name neither.
    is_old = "tokenizer" in known and "processing_class" not in known
    name = "tokenizer" if is_old else "processing_class"
    found: dict[str, Any] = {name: tokenizer}
    if "optimizer_cls_and_kwargs" in known:
        found["optimizer_cls_and_kwargs"] = optimizer
    return found


def logs_next_rate(trainer: Any) -> bool:
    """Whether a trainer reads the rate that it logs after the scheduler's step, as it once did.

    Since transformers 4.51 it keeps the step's own for the log.
    """
    return "learning_rate" not in inspect.signature(trainer._maybe_log_save_evaluate).parameters


def take_optimizer(trainer: Any, optimizer: tuple[type, dict[str, Any]]) -> None:
    """Have a trainer make this optimizer, whose constructor may not have taken it."""
    if hasattr(trainer, "optimizer_cls_and_kwargs"):
        trainer.optimizer_cls_and_kwargs = optimizer
    else:
        # Asked for the class that a name in its arguments stands for, it gets ours.
        trainer.get_optimizer_cls_and_kwargs = lambda *_: optimizer


def tell_labels(trainer: Any, model: nn.Module) -> None:
    """Have an SFTTrainer that smooths labels outside of its model tell `inputs_of` of them."""
    compute = trainer.compute_loss

    def compute_loss(of: Any, batch: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        labels = batch.get("labels")
        vars(model)[_LABELS] = labels
        return compute(of, batch, *args, **kwargs)

    trainer.compute_loss = compute_loss


def tell_completions(trainer: Any, model: nn.Module) -> None:
    """Have a DPOTrainer that gives its model no labels tell `inputs_of` what its loss counts.

    Until TRL 0.28 it joins chosen and rejected rows itself; until 1.11 its batches have a mask.
    """
    joined = getattr(trainer, "concatenated_inputs", None)
    if joined is None:
        compute = trainer.compute_loss

        def compute_loss(of: Any, batch: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
            vars(model)[_COUNTED] = batch.get("completion_mask")
            return compute(of, batch, *args, **kwargs)

        trainer.compute_loss = compute_loss
        return

    def concatenate(*args: Any, **kwargs: Any) -> dict[str, Any]:
        batch: dict[str, Any] = joined(*args, **kwargs)
        labels = batch.get("concatenated_labels")
        counted = batch["completion_attention_mask"] if labels is None else labels != IGNORED
        vars(model)[_COMPLETIONS] = counted.sum(dim=1)
        return batch

    trainer.concatenated_inputs = concatenate


def inputs_of(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return what a model gets in one pass, by name; labels too, where its trainer keeps them.

    What counts is then at the end of a row, where a completion stands: (rows, columns).
    """
    given = {**dict(zip(("input_ids",), args, strict=False)), **kwargs}
    if given.get("labels") is not None:
        return given
    labels: torch.Tensor | None = vars(model).get(_LABELS)
    if labels is not None and labels.shape == given["input_ids"].shape:
        return {**given, "labels": labels}
    counts = _counted(vars(model), given)
    if counts is None:
        return given
    return {**given, "labels": given["input_ids"].masked_fill(~counts, IGNORED)}


def nats_of(output: Any) -> float | None:
    """Return the sum over the tokens that a training pass counted; None where it doesn't say.

    The head that TRL fuses with its loss gives each token its log-probability, or 0.
    """
    found: torch.Tensor | None = getattr(output, "log_probs", None)
    return None if found is None else -float(found.detach().cpu().double().sum())


def _counted(told: Mapping[str, Any], given: Mapping[str, Any]) -> torch.Tensor | None:
    """Return which positions of a batch count; None where nobody has told."""
    marks: torch.Tensor | None = told.get(_COUNTED)
    if marks is not None and marks.shape == given["input_ids"].shape:
        return marks == 1
    sizes: torch.Tensor | None = told.get(_COMPLETIONS)
    if sizes is None:
        return None
    mask: torch.Tensor = given["attention_mask"]
    # Counted from the last real position of each row, that one being 1.
    place = mask.flip(1).cumsum(1).flip(1)
    return (mask == 1) & (place <= sizes.to(place.device).unsqueeze(1))


def clipping_limit(limit: float) -> float:
    """Return what a Trainer is told that logs the norm of each gradient; 0 clips nothing.

    Newer ones then clip to infinity, which gives the norm. Older ones do and log nothing.
    """
    logs_anyhow = hasattr(transformers.Trainer, "_get_grad_norm")
    return limit if limit > 0 or logs_anyhow else math.inf


def decoder_layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers of a decoder, each of which is checkpointed, or sharded, as a whole."""
    try:
        from transformers.modeling_layers import GradientCheckpointingLayer
    except ImportError:
        return kept_whole(model)
    return [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]


def kept_whole(model: nn.Module) -> list[nn.Module]:
    """Return the modules that a model's own class says may not be split over devices."""
    told = [getattr(module, "_no_split_modules", None) or () for module in model.modules()]
    names = {name for found in told for name in found}
    return [module for module in model.modules() if type(module).__name__ in names]


def merge_safely(model: Any) -> None:
    """Merge the adapter of a PEFT model in place; newer releases refuse to merge what isn't finite.

    Older ones can do that only where they take the adapter off as well.
    """
    can = "safe_merge" in inspect.signature(model.base_model.merge_adapter).parameters
    model.merge_adapter(**({"safe_merge": True} if can else {}))


def current_accelerator() -> torch.device | None:
    """Return the accelerator that PyTorch finds and that is there; None without one."""
    if not hasattr(torch, "accelerator"):
        return torch.device("cuda") if torch.cuda.is_available() else None
    if not torch.accelerator.is_available():
        return None
    found: torch.device | None = torch.accelerator.current_accelerator()
    return found


def allocator(device: str) -> ModuleType:
    """Return the module that counts and frees an accelerator's memory.

    Args:
        device: PyTorch's name of its kind, which older releases count apart.
    """
    common = getattr(torch, "accelerator", None)
    has_all = hasattr(common, "memory_allocated")
    found: ModuleType = getattr(torch, "accelerator" if has_all else device)
    return found


def sharding() -> ModuleType:
    """Return the module that has FSDP2's `fully_shard` and `FSDPModule`."""
    public = import_module("torch.distributed.fsdp")
    if hasattr(public, "fully_shard"):
        return public
    return import_module("torch.distributed._composable.fsdp")


def fitting(settings: type, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of `wanted` that a class of settings has; older ones do without the others."""
    known = {field.name for field in fields(settings)}
    return {name: value for name, value in wanted.items() if name in known}


def own_device(config: type, device: str) -> dict[str, bool]:
    """Return what makes torchrun's agent show each rank one device alone; the CPU is shared.

    Raises:
        ValueError: this release can't, and the device isn't the CPU.
    """
    found: dict[str, bool] = fitting(config, {"virtual_local_rank": device != "cpu"})
    if found or device == "cpu":
        return found
    message = f"torch {version('torch')} can't show each process a {device} device of its own"
    raise ValueError(message)


def refused(config: type, what: str) -> ValueError:
    """Return what to raise where a release of TRL can't do what is asked for."""
    return ValueError(f"{config.__name__} of trl {version('trl')} can't be told: {what}")
