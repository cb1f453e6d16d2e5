"""Faults in biases of the base that train beside its adapters."""

from __future__ import annotations

from typing import Any

from peft import LoraConfig, peft_model
from peft.tuners.tuners_utils import BaseTuner

from tunematrix.faults.catalogue import fault

ADAPTED = "biases[*-toy-qwen-lora]"


@fault("adapter", replaces=(LoraConfig, "__post_init__"), seen_by=(ADAPTED,))
def biases_frozen(original: Any, adapter: Any) -> None:
    """Train no bias, though all were asked for.

    Stands for settings that a trainer's own configuration of adapters doesn't hand on.
    """
    adapter.bias = "none"
    original(adapter)


@fault("checkpoint", replaces=(BaseTuner, "_get_learnable_bias_state_dict"), seen_by=(ADAPTED,))
def biases_not_saved(original: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Save adapters without the biases that were trained beside them.

    Stands for names of biases that changed when adapted layers began to hold the base's in
    `base_layer`.
    """
    return {}


@fault("checkpoint", replaces=(peft_model, "set_peft_model_state_dict"), seen_by=(ADAPTED,))
def biases_not_loaded(
    original: Any, model: Any, tensors: dict[str, Any], *args: Any, **kwargs: Any
) -> Any:
    """Load adapters without the biases that were saved with them.

    Stands for tensors that a loader passes over, since they aren't an adapter's by their name.
    """
    kept = {name: tensor for name, tensor in tensors.items() if not name.endswith(".bias")}
    return original(model, kept, *args, **kwargs)
