"""The step `generate` with sabotaged libraries: each fault fails the check for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import torch
from peft import PeftModel, PeftModelForCausalLM
from peft.tuners.lora.layer import Linear
from tests.stack.generate_step.world import ADAPTER, BASE, World
from transformers import GenerationMixin, GPT2Model

from tunematrix.configuration import Configuration
from tunematrix.faults import generating as faults
from tunematrix.faults.patching import replaced

Plant = Callable[[Configuration], AbstractContextManager[None]]


def _padded_on_the_right(original: Any, model: Any, **asked: Any) -> Any:
    ids, mask = asked["input_ids"], asked["attention_mask"]
    pads = (mask == 0).sum(dim=1).tolist()
    turned = {
        key: torch.stack([row.roll(-pad) for row, pad in zip(value, pads, strict=True)])
        for key, value in (("input_ids", ids), ("attention_mask", mask))
    }
    return original(model, **{**asked, **turned})


def _unmasked(original: Any, model: Any, **asked: Any) -> Any:
    mask = torch.ones_like(asked["attention_mask"])
    return original(model, **{**asked, "attention_mask": mask})


def _gpt2_positions_off(original: Any, model: Any, *args: Any, **given: Any) -> Any:
    cached, positions = given.get("past_key_values"), given.get("position_ids")
    if cached is not None and positions is not None and cached.get_seq_length():
        given["position_ids"] = positions + 1
    return original(model, *args, **given)


def _without_the_adapter(original: Any, model: Any, **asked: Any) -> Any:
    with model.disable_adapter():
        return original(model, **asked)


@contextmanager
def _loaded_as_new(_: Configuration) -> Iterator[None]:
    """Read an adapter's file, and leave its factors as they begin."""

    def wrap(original: Any) -> Any:
        def load(model: Any, weights: Any, **given: Any) -> Any:
            zeros = {name: tensor * 0 for name, tensor in weights.items()}
            return original(model, zeros, **given)

        return load

    from peft import peft_model  # by this name PeftModel calls it

    with replaced(peft_model, "set_peft_model_state_dict", wrap):
        yield


@contextmanager
def _merged_for_good(_: Configuration) -> Iterator[None]:
    """Merge the adapter into its base, and forget that it is one."""

    def wrap(original: Any) -> Any:
        def load(base: Any, folder: str) -> Any:
            model = original(base, folder)
            model.merge_adapter()
            for module in model.modules():
                if isinstance(module, Linear):
                    module.merged_adapters.clear()
            return model

        return load

    with replaced(PeftModel, "from_pretrained", wrap):
        yield


def _in_place_of(owner: Any, name: str, function: Callable[..., Any]) -> Plant:
    """Let a function stand in for a method; it is called with the original first."""

    def wrap(original: Any) -> Any:
        def call(*args: Any, **given: Any) -> Any:
            return function(original, *args, **given)

        return call

    return lambda _: replaced(owner, name, wrap)


GENERATE = (GenerationMixin, "generate")
BATCH, CACHE, ADAPTER_ACTS = (
    {"step_batch_equals_single"}, {"step_cache_exact"}, {"step_adapter_acts"},
)  # fmt: skip
PLANTED: dict[str, tuple[Plant, str, set[str]]] = {
    "right padding": (_in_place_of(*GENERATE, _padded_on_the_right), BASE, BATCH),
    "right padding, adapter": (_in_place_of(*GENERATE, _padded_on_the_right), ADAPTER, BATCH),
    "right padding, gpt2": (
        _in_place_of(*GENERATE, _padded_on_the_right), "toyworld://gpt2", BATCH,
    ),
    "padding that is seen": (_in_place_of(*GENERATE, _unmasked), BASE, BATCH),
    "padding that is seen, gpt2": (_in_place_of(*GENERATE, _unmasked), "toyworld://gpt2", BATCH),
    "cache off by one": (faults.positions_off_beside_cache, BASE, CACHE),
    "cache off by one, adapter": (
        faults.positions_off_beside_cache, ADAPTER, CACHE,
    ),
    "cache off by one, gpt2": (
        _in_place_of(GPT2Model, "forward", _gpt2_positions_off), "toyworld://gpt2", CACHE,
    ),
    "oldest token forgotten": (faults.oldest_token_forgotten, BASE, CACHE),
    "cache in eight bits": (faults.cache_in_eight_bits, BASE, CACHE),
    "penalty left on": (faults.penalty_left_on, BASE, CACHE),
    "first word masked": (faults.first_words_masked, BASE, CACHE),
    "adapter ignored by its layers": (
        _in_place_of(Linear, "forward", lambda _, layer, x, **__: layer.base_layer(x)),
        ADAPTER, ADAPTER_ACTS,
    ),
    "adapter ignored by generation": (
        _in_place_of(PeftModelForCausalLM, "generate", _without_the_adapter), ADAPTER, CACHE,
    ),
    "adapter left as new": (_loaded_as_new, ADAPTER, ADAPTER_ACTS),
    "adapter merged for good": (_merged_for_good, ADAPTER, ADAPTER_ACTS),
}  # fmt: skip


@pytest.mark.each_time(8)
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_fails_its_check(world: World, name: str) -> None:
    """The step ends as an honest one does, and the check that the fault is for fails."""
    plant, path, checks = PLANTED[name]
    with plant(world.config):
        ran = world.run(path)
    assert checks <= ran.failed
