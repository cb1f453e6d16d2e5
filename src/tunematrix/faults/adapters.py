"""Faults in what an adapter covers and what it leaves alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import torch
from peft import AutoPeftModelForCausalLM
from peft.tuners.lora import Linear, LoraLayer
from peft.tuners.tuners_utils import BaseTuner
from transformers import AutoModelForCausalLM, Trainer

from tunematrix.configuration import Configuration
from tunematrix.faults.catalogue import fault
from tunematrix.faults.patching import replaced
from tunematrix.stack.engines.torch.methods import lora

NUDGE = 1e-6


@fault("adapter", replaces=(lora, "LoraConfig"), fitted=True)
def adapter_on_one_layer(original: Any, **settings: Any) -> Any:
    """Attach to the first layer alone.

    Stands for target_modules patterns that match less than their author believes.
    """
    targets = [f"layers.0.self_attn.{n}" for n in settings["target_modules"] if "_" in n]
    return original(**{**settings, "target_modules": targets})


@fault(
    "adapter",
    replaces=(LoraLayer, "reset_lora_parameters"),
    seen_by=("lora[*-lora-none]", "dora[*-dora-none]"),
    fitted=True,
    subtle=True,
)
def first_factor_drawn_a_little_too_narrow(original: Any, layer: Any, name: str, init: Any) -> None:
    """Draw the first factor within 98 % of where it should be.

    Stands for a bound that counts something else beside a layer's inputs.
    """
    original(layer, name, init)
    _rescale(layer, name, 0.98)


@fault(
    "adapter",
    replaces=(LoraLayer, "reset_lora_parameters"),
    seen_by=("lora[*-lora-none]", "dora[*-dora-none]"),
    fitted=True,
)
def first_factor_drawn_for_its_outputs(original: Any, layer: Any, name: str, init: Any) -> None:
    """Draw the first factor by its rank, which is its outputs, and not by its inputs.

    Stands for a fan that is counted on the wrong side of a transposed weight.
    """
    original(layer, name, init)
    if name in layer.lora_A:
        rank, inputs = layer.lora_A[name].weight.shape
        _rescale(layer, name, (inputs / rank) ** 0.5)


def _rescale(layer: Any, name: str, factor: float) -> None:
    if name in layer.lora_A:
        with torch.no_grad():
            layer.lora_A[name].weight.mul_(factor)


@fault("adapter", replaces=(Trainer, "training_step"), fitted=True, subtle=True)
def base_weights_changed(original: Any, trainer: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
    """Nudge one frozen weight by a millionth in each training step.

    Stands for base weights that a loader ties, casts or merges into while an adapter trains.
    """
    frozen = next(p for p in model.parameters() if not p.requires_grad and p.dim() == 2)
    with torch.no_grad():
        frozen.mul_(1 + NUDGE)
    return original(trainer, model, *args, **kwargs)


@fault("adapter", seen_by=("merge[*-lora]", "same-loaded[*-toy-llama-lora]"), fitted=True)
def one_layer_not_merged(config: Configuration) -> Iterator[None]:
    """Leave the first layer's adapter out of each merge.

    Stands for merges that go by a list of names, and miss a layer or its tied twin.
    """

    asked: list[Any] = []

    def wrap(original: Any) -> Any:
        def merge(layer: Any, *args: Any, **kwargs: Any) -> None:
            asked.append(layer)
            if layer is not asked[0]:
                original(layer, *args, **kwargs)

        return merge

    with replaced(Linear, "merge", wrap):
        yield


@fault(
    "adapter",
    replaces=(BaseTuner, "merge_and_unload"),
    seen_by=("merge[*-lora]", "same-merged[*-none]"),
    fitted=True,
)
def nothing_merged(original: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
    """Let a merge take nothing over, and unload the adapter all the same.

    Stands for merges into a copy of the weights (huggingface/peft#3348).
    """
    _forget(p for name, p in model.named_parameters() if "lora_B" in name)
    return original(model, *args, **kwargs)


@fault("checkpoint", seen_by=("same-loaded-auto[*-toy-llama-lora]",), fitted=True)
def one_tensor_not_loaded(config: Configuration) -> Iterator[None]:
    """Let both AutoModels leave one lora_B as it was initialised.

    Stands for loaders that find no parameter by a saved name, and go on without a word.
    """

    def wrap(original: Any) -> Any:
        def load(*args: Any, **kwargs: Any) -> Any:
            model = original(*args, **kwargs)
            _forget(islice((p for name, p in model.named_parameters() if "lora_B" in name), 1))
            return model

        return load

    with (
        replaced(AutoPeftModelForCausalLM, "from_pretrained", wrap),
        replaced(AutoModelForCausalLM, "from_pretrained", wrap),
    ):
        yield


def _forget(parameters: Iterable[torch.Tensor]) -> None:
    with torch.no_grad():
        for parameter in parameters:
            parameter.zero_()


@fault("adapter", replaces=(LoraLayer, "reset_lora_parameters"), fitted=True)
def layers_seeded_alike(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Draw the first factor of every adapter under the same seed.

    Stands for launchers that seed anew before each layer is made: each adapter has its rank, and
    they all look in the same directions.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return original(*args, **kwargs)
