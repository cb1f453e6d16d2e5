"""Faults in adapters on embeddings, which PEFT keeps, looks up and merges by code of their own."""

from __future__ import annotations

from typing import Any

import peft.peft_model
import torch
from peft import LoraConfig
from peft.tuners.lora.layer import Embedding, LoraLayer

from tunematrix.faults.catalogue import fault

EMBEDDED = ("embeddings[*-untied-llama-lora]",)


@fault("adapter", replaces=(LoraConfig, "__post_init__"), seen_by=EMBEDDED, fitted=True)
def embeddings_left_out(original: Any, config: Any) -> None:
    """Adapt the linear layers alone.

    Stands for wrappers that only look for layers which multiply.
    """
    config.target_modules = [one for one in config.target_modules if "embed" not in one]
    original(config)


@fault("adapter", replaces=(Embedding, "update_layer"), seen_by=EMBEDDED, fitted=True)
def embeddings_of_another_scale(
    original: Any, layer: Any, name: str, *args: Any, **kwargs: Any
) -> None:
    """Scale what is added to embeddings by half.

    Stands for a factor that is worked out for linear layers, and forgotten here.
    """
    original(layer, name, *args, **kwargs)
    layer.scaling[name] /= 2


@fault("adapter", replaces=(LoraLayer, "reset_lora_parameters"), seen_by=EMBEDDED, fitted=True)
def embeddings_drawn_narrow(original: Any, layer: Any, name: str, *args: Any) -> None:
    """Draw the factor of embeddings as that of a linear layer, which is eight times narrower.

    Stands for one start that is taken for all kinds of layers.
    """
    original(layer, name, *args)
    if name in layer.lora_embedding_B:
        with torch.no_grad():
            layer.lora_embedding_B[name].mul_(0.125)


@fault("adapter", replaces=(Embedding, "merge"), seen_by=EMBEDDED, fitted=True)
def embeddings_not_merged(_original: Any, layer: Any, *args: Any, **kwargs: Any) -> None:
    """Leave the adapter of embeddings out of a merge.

    Stands for merges that go through the linear layers.
    """
    layer.merged_adapters.append("default")


@fault(
    "checkpoint",
    replaces=(peft.peft_model, "get_peft_model_state_dict"),
    seen_by=EMBEDDED,
    fitted=True,
)
def embeddings_not_saved(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Save the adapters of linear layers alone.

    Stands for names that end otherwise, since these factors have no layer of their own.
    """
    saved = original(*args, **kwargs)
    return {name: one for name, one in saved.items() if "lora_embedding" not in name}
