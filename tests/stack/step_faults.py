"""Faults of the steps of a pipeline, each in the library that would have it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.optimizer import AcceleratedOptimizer
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from trl import DPOTrainer

from tunematrix.configuration import Configuration


@contextmanager
def _exchanged(owner: Any, name: str, make: Callable[[Any], Any]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, make(getattr(owner, name)))
        yield


def _loaded_otherwise(change: Callable[[nn.Parameter], None], kind: str) -> Any:
    original = PeftModel.from_pretrained.__func__

    def load(cls: type, model: Any, path: Any, *args: Any, **kwargs: Any) -> Any:
        loaded = original(cls, model, path, *args, **kwargs)
        with torch.no_grad():
            for name, parameter in loaded.named_parameters():
                if kind in name:
                    change(parameter)
        return loaded

    return _exchanged(PeftModel, "from_pretrained", lambda _: classmethod(load))


def begins_with_the_base(config: Configuration) -> Any:
    """An adapter that is loaded does nothing."""
    return _loaded_otherwise(nn.init.zeros_, "lora_B")


def begins_with_another_adapter(config: Configuration) -> Any:
    """An adapter that is loaded is a new one in part."""
    return _loaded_otherwise(nn.init.normal_, "lora_A")


def merges_twice(config: Configuration) -> Any:
    """An adapter's product is added two times."""

    def make(original: Any) -> Any:
        def merge(self: Any, *args: Any, **kwargs: Any) -> Any:
            for module in self.modules():
                if isinstance(module, LoraLayer):
                    module.scaling = {name: 2 * one for name, one in module.scaling.items()}
            return original(self, *args, **kwargs)

        return merge

    return (
        _exchanged(PeftModel, "merge_and_unload", make)
        if "merge_and_unload" in vars(PeftModel)
        else _merge_of_tuner(make)
    )


def _merge_of_tuner(make: Callable[[Any], Any]) -> Any:
    from peft import LoraModel

    return _exchanged(LoraModel, "merge_and_unload", make)


def merges_nothing(config: Configuration) -> Any:
    """An adapter is taken off in place of being merged."""
    return _merge_of_tuner(lambda _: lambda self, *args, **kwargs: self.unload())


def saves_what_it_began_with(config: Configuration) -> Any:
    """A trained adapter is written with one factor as new ones have it."""

    def make(original: Any) -> Any:
        def save(self: Any, folder: Any, *args: Any, **kwargs: Any) -> Any:
            state = {
                name: torch.zeros_like(one) if "lora_B" in name else one
                for name, one in self.state_dict().items()
            }
            return original(self, folder, *args, **{**kwargs, "state_dict": state})

        return save

    return _exchanged(PeftModel, "save_pretrained", make)


def swaps_the_answers(config: Configuration) -> Any:
    """The trainer takes the rejected answer for the chosen one."""

    def make(original: Any) -> Any:
        def init(self: Any, *args: Any, **kwargs: Any) -> None:
            names = {"chosen": "rejected", "rejected": "chosen"}
            rows = kwargs["train_dataset"].rename_columns({"chosen": "aside"})
            rows = rows.rename_columns({"rejected": "chosen"}).rename_columns({"aside": "rejected"})
            assert {*names} <= {*rows.column_names}
            original(self, *args, **{**kwargs, "train_dataset": rows})

        return init

    return _exchanged(DPOTrainer, "__init__", make)


def steps_do_nothing(config: Configuration) -> Any:
    """The optimizer's steps are left out."""
    return _exchanged(AcceleratedOptimizer, "step", lambda _: lambda self, closure=None: None)


def most_steps_do_nothing(config: Configuration) -> Any:
    """Of each optimizer's steps, only the first is taken."""

    def make(original: Any) -> Any:
        seen: list[object] = []

        def step(self: Any, closure: Any = None) -> None:
            if not any(self is one for one in seen):
                seen.append(self)
                original(self, closure)

        return step

    return _exchanged(AcceleratedOptimizer, "step", make)


def scales_by_alpha_alone(config: Configuration) -> Any:
    """An adapter's product is added a fifth too large, as with another rank."""

    def make(original: Any) -> Any:
        def merge(self: Any, *args: Any, **kwargs: Any) -> Any:
            for module in self.modules():
                if isinstance(module, LoraLayer):
                    module.scaling = {name: 1.2 * one for name, one in module.scaling.items()}
            return original(self, *args, **kwargs)

        return merge

    return _merge_of_tuner(make)


def leaves_out_a_layer(config: Configuration) -> Any:
    """One layer's adapter isn't merged."""

    def make(original: Any) -> Any:
        def merge(self: Any, *args: Any, **kwargs: Any) -> Any:
            first = next(one for one in self.modules() if isinstance(one, LoraLayer))
            first.scaling = dict.fromkeys(first.scaling, 0.0)
            return original(self, *args, **kwargs)

        return merge

    return _merge_of_tuner(make)


def _rounded(weight: torch.Tensor) -> torch.Tensor:
    """Round to 16 levels from the least to the largest of 128, as a quantizer does."""
    groups = weight.detach().reshape(-1, 128)
    low, high = groups.amin(1, keepdim=True), groups.amax(1, keepdim=True)
    step = (high - low) / 15
    return (((groups - low) / step).round() * step + low).reshape(weight.shape)


def merges_into_a_quantized_base(config: Configuration) -> Any:
    """The base is rounded before an adapter is merged, and what comes of it once more."""

    def make(original: Any) -> Any:
        def merge(self: Any, *args: Any, **kwargs: Any) -> Any:
            with torch.no_grad():
                for module in self.modules():
                    if isinstance(module, LoraLayer):
                        weight = module.get_base_layer().weight
                        weight.copy_(_rounded(weight))
            return original(self, *args, **kwargs)

        return merge

    return _merge_of_tuner(make)


def _saved_otherwise(change: Callable[[Any, Path], None]) -> Any:
    """After a model was saved, something is done to its folder."""

    def make(original: Any) -> Any:
        def save(self: Any, folder: Any, *args: Any, **kwargs: Any) -> Any:
            original(self, folder, *args, **kwargs)
            change(self, Path(folder))

        return save

    return _exchanged(PreTrainedModel, "save_pretrained", make)


def _weights(change: Callable[[dict[str, torch.Tensor]], None]) -> Any:
    def edit(model: Any, folder: Path) -> None:
        file = folder / "model.safetensors"
        tensors = load_file(file)
        with safe_open(file, "pt") as opened:
            metadata = opened.metadata()
        change(tensors)
        save_file(tensors, file, metadata=metadata)

    return _saved_otherwise(edit)


def quantizes_what_was_merged_twice(config: Configuration) -> Any:
    """Merged weights are rounded as they are saved, before they are quantized."""

    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name, one in tensors.items():
            if one.ndim == 2 and one.is_floating_point() and "embed" not in name:
                tensors[name] = _rounded(one)

    return _weights(change)


def tears_the_export(config: Configuration) -> Any:
    """The file of weights ends early."""

    def cut(model: Any, folder: Path) -> None:
        file = folder / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-1000])

    return _saved_otherwise(cut)


def fills_the_disk(config: Configuration) -> Any:
    """There is no space left once half of a model is written."""

    def fill(model: Any, folder: Path) -> None:
        (folder / "config.json").unlink()
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    return _saved_otherwise(fill)


def loses_a_tensor(config: Configuration) -> Any:
    """A tensor isn't saved."""

    def lose(tensors: dict[str, torch.Tensor]) -> None:
        del tensors[next(name for name in tensors if "norm" in name)]

    return _weights(lose)


def shifts_a_norm(config: Configuration) -> Any:
    """A tensor that no quantizer touches is saved a little off."""

    def change(tensors: dict[str, torch.Tensor]) -> None:
        name = next(name for name in tensors if "norm" in name)
        tensors[name] = tensors[name] * 1.01

    return _weights(change)


def skips_a_layer(config: Configuration) -> Any:
    """A quantizer leaves some layers as they are."""

    def make(original: Any) -> Any:
        def init(self: Any, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **{**kwargs, "llm_int8_skip_modules": ["down_proj", "lm_head"]})

        return init

    return _exchanged(BitsAndBytesConfig, "__init__", make)


def _tokenizer(change: Callable[[Any], Any]) -> Any:
    def make(original: Any) -> Any:
        return lambda self, *args, **kwargs: original(change(self), *args, **kwargs)

    return _exchanged(PreTrainedTokenizerBase, "save_pretrained", make)


def saves_another_tokenizer(config: Configuration) -> Any:
    """The tokenizer that is saved has one word more."""

    def change(own: Any) -> Any:
        other = PreTrainedTokenizerFast.from_pretrained(own.name_or_path)
        other.add_tokens(["tunematrix"])
        return other

    return _tokenizer(change)


def saves_another_template(config: Configuration) -> Any:
    """The tokenizer that is saved asks models in another way."""

    def change(own: Any) -> Any:
        other = PreTrainedTokenizerFast.from_pretrained(own.name_or_path)
        other.chat_template = "{{ messages[0].content }}"
        return other

    return _tokenizer(change)
