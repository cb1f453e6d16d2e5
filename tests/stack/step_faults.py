"""Faults of the steps of a pipeline, each in the library that would have it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from accelerate.optimizer import AcceleratedOptimizer
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn
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
