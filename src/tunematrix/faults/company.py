"""Faults in adapters that aren't all alike, or aren't alone: patterns, names, switches, sums."""

from __future__ import annotations

from typing import Any

from peft import LoraConfig, PeftModel
from peft.tuners.lora import Linear, LoraLayer, LoraModel
from peft.tuners.tuners_utils import BaseTuner

from tunematrix.faults.catalogue import fault

MERGED = ("merge[*-lora]",)
BY_LAYER = ("modules-to-save[*-lora-none]",)
BESIDE = ("several-adapters[*-lora]",)


@fault("adapter", replaces=(LoraConfig, "__post_init__"), seen_by=BY_LAYER, fitted=True)
def ranks_by_layer_ignored(original: Any, config: Any) -> None:
    """Give all layers the same rank, whatever the pattern says.

    Stands for names that a wrapper has prefixed, so that no pattern matches.
    """
    config.rank_pattern = {}
    original(config)


@fault("adapter", replaces=(LoraConfig, "__post_init__"), seen_by=BY_LAYER, fitted=True)
def alphas_by_layer_ignored(original: Any, config: Any) -> None:
    """Give all layers the same alpha, whatever the pattern says.

    Stands for huggingface/peft#3582.
    """
    config.alpha_pattern = {}
    original(config)


@fault("adapter", replaces=(BaseTuner, "disable_adapter_layers"), seen_by=MERGED, fitted=True)
def never_switched_off(_original: Any, model: Any) -> None:
    """Leave adapters on where they are switched off.

    Stands for wrappers that keep a flag which the layers don't look at: a reference model that is
    the trained one.
    """


@fault("adapter", replaces=(BaseTuner, "enable_adapter_layers"), seen_by=MERGED, fitted=True)
def never_switched_on_again(_original: Any, model: Any) -> None:
    """Leave adapters off where they are switched on again.

    Stands for evaluations of the base in the course of training, after which no adapter takes part.
    """


@fault("adapter", replaces=(LoraModel, "add_weighted_adapter"), seen_by=MERGED, fitted=True)
def weights_of_a_sum_ignored(
    original: Any, model: Any, adapters: Any, weights: Any, *args: Any, **kwargs: Any
) -> Any:
    """Add adapters up by half each, whatever weights were given.

    Stands for sums that are normalised where nobody asked for it.
    """
    even = [1 / (2 * len(adapters))] * len(adapters)
    return original(model, adapters, even, *args, **kwargs)


@fault("adapter", replaces=(BaseTuner, "merge_and_unload"), seen_by=BESIDE, fitted=True)
def only_the_first_merged(original: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
    """Merge the first of two active adapters alone.

    Stands for merges that go by the name "default".
    """
    return original(model, *args, **{**kwargs, "adapter_names": model.active_adapters[:1]})


@fault("adapter", replaces=(LoraLayer, "update_layer"), seen_by=BESIDE, fitted=True)
def second_adapter_of_another_scale(
    original: Any, layer: Any, name: str, *args: Any, **kwargs: Any
) -> None:
    """Scale a second adapter by half.

    Stands for factors that are divided by the number of adapters.
    """
    original(layer, name, *args, **kwargs)
    if len(layer.scaling) > 1:
        layer.scaling[name] /= 2


@fault("adapter", replaces=(BaseTuner, "merge_and_unload"), seen_by=BESIDE, fitted=True)
def names_of_a_merge_ignored(original: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
    """Merge all active adapters, whichever were named.

    Stands for wrappers that don't hand the names on.
    """
    return original(model, *args, **{**kwargs, "adapter_names": None})


@fault("adapter", replaces=(PeftModel, "set_adapter"), seen_by=BESIDE, fitted=True)
def others_left_active(original: Any, model: Any, name: str, *args: Any, **kwargs: Any) -> None:
    """Make an adapter active, and leave those active that were.

    Stands for switches that add to a list where they should begin a new one.
    """
    before = model.active_adapters
    original(model, name, *args, **kwargs)
    model.base_model.set_adapter([*before, *([] if name in before else [name])])


@fault("adapter", replaces=(Linear, "unmerge"), seen_by=MERGED, fitted=True)
def merged_for_good(_original: Any, layer: Any) -> None:
    """Leave what was merged in the weights where it is to be taken out.

    Stands for a base that is no longer the base once an adapter was merged and taken out.
    """
    layer.merged_adapters.clear()


@fault("adapter", replaces=(Linear, "unmerge"), seen_by=MERGED, fitted=True, subtle=True)
def taken_out_at_another_scale(original: Any, layer: Any) -> None:
    """Take 99 % of what was merged out again.

    Stands for a scale that was changed in between.
    """
    kept = dict(layer.scaling)
    layer.scaling = {name: 0.99 * one for name, one in kept.items()}
    original(layer)
    layer.scaling = kept
