"""Faults of adapters: what they compute, and how they are merged, saved, loaded and resumed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import peft.peft_model
import torch
from peft import LoraConfig
from peft.tuners.lora import layer
from torch import nn
from transformers import PreTrainedModel, Trainer

from tunematrix.configuration import Configuration
from tunematrix.faults.catalogue import fault


@fault(
    "adapter",
    replaces=(layer.LoraLayer, "update_layer"),
    seen_by=("modules-to-save[*-lora-none]", "modules-to-save[*-lora-bnb-nf4]"),
)
def scale_by_the_common_rank(
    original: Any, self: Any, adapter_name: str, r: int, lora_alpha: int, config: Any, **kwargs: Any
) -> None:
    """Divide alpha by the rank of the configuration, on layers too whose own rank is another."""
    original(self, adapter_name, r=r, lora_alpha=lora_alpha, config=config, **kwargs)
    if not config.use_rslora:
        self.scaling[adapter_name] = lora_alpha / config.r


@fault("adapter", replaces=(layer.Linear, "forward"), seen_by=("dropout[*-lora]",))
def dropout_after_the_first_factor(
    original: Any, self: Any, x: torch.Tensor, *args: Any, **kwargs: Any
) -> torch.Tensor:
    """Drop what leaves an adapter's first factor, and not what enters it."""
    names = [name for name in self.active_adapters if name in self.lora_A]
    drops = any(isinstance(self.lora_dropout[name], nn.Dropout) for name in names)
    if not (drops and self.training) or self.disable_adapters or self.merged:
        whole: torch.Tensor = original(self, x, *args, **kwargs)
        return whole
    result: torch.Tensor = self.base_layer(x)
    for name in names:
        reduced = self.lora_A[name](x.to(self.lora_A[name].weight.dtype))
        result = result + self.lora_B[name](self.lora_dropout[name](reduced)) * self.scaling[name]
    return result


@fault(
    "adapter",
    replaces=(layer.Linear, "get_delta_weight"),
    seen_by=("merge[*-lora]", "merge[*-dora]", "same-merged[*-none]"),
    subtle=True,
)
def product_merged_in_half(original: Any, self: Any, adapter: str) -> torch.Tensor:
    """Round what an adapter adds to bfloat16 before it is merged into float32 weights."""
    product: torch.Tensor = original(self, adapter)
    return product.bfloat16().to(product.dtype)


@fault(
    "adapter",
    replaces=(layer.Linear, "get_delta_weight"),
    seen_by=("architectures-standard[*-toy-gpt2-lora]", "biases[*-toy-gpt2-lora]"),
)
def square_layers_merged_as_they_lie(original: Any, self: Any, adapter: str) -> torch.Tensor:
    """Turn the product for a transposed layer only where its shape wouldn't fit otherwise."""
    product: torch.Tensor = original(self, adapter)
    rows, columns = product.shape
    return product.T if self.fan_in_fan_out and rows == columns else product


@fault(
    "checkpoint",
    replaces=(peft.peft_model, "get_peft_model_state_dict"),
    seen_by=("biases[*-toy-gpt2-lora]",),
)
def biases_of_norms_not_saved(original: Any, *args: Any, **kwargs: Any) -> Any:
    """Save the biases of linear layers alone, though those of norms were trained as well."""
    tensors = original(*args, **kwargs)
    return {name: one for name, one in tensors.items() if not (".ln_" in name and "bias" in name)}


@fault(
    "checkpoint",
    replaces=(LoraConfig, "to_dict"),
    seen_by=("modules-to-save[*-lora-none]", "modules-to-save[*-lora-bnb-nf4]"),
)
def alphas_of_layers_not_saved(original: Any, self: Any) -> dict[str, Any]:
    """Write an adapter's configuration without the alphas that some of its layers have."""
    settings: dict[str, Any] = original(self)
    return {**settings, "alpha_pattern": {}}


@fault("checkpoint", seen_by=("full[*-full-none]", "lora[*-lora-none]"))
def last_norm_initialised_after_loading(config: Configuration) -> Iterator[None]:
    """Initialise the last norm once the checkpoint is read, as if its weight had been missing."""

    def reset(model: PreTrainedModel) -> None:
        norm = getattr(model.base_model, "norm", None)
        if norm is not None:
            norm.weight.fill_(1.0)

    yield from _after_loading(reset)


@fault("checkpoint", seen_by=("full[*-full-none]", "lora[*-lora-none]", "parity[*]"), subtle=True)
def embeddings_loaded_in_half(config: Configuration) -> Iterator[None]:
    """Load the embeddings of tokens through bfloat16, and everything else as it is."""

    def lower(model: PreTrainedModel) -> None:
        weight = model.get_input_embeddings().weight
        weight.copy_(weight.bfloat16())

    yield from _after_loading(lower)


def _after_loading(change: Any) -> Iterator[None]:
    original = PreTrainedModel.__dict__["from_pretrained"]

    def from_pretrained(cls: Any, *args: Any, **kwargs: Any) -> Any:
        found = original.__func__(cls, *args, **kwargs)
        with torch.no_grad():
            change(found[0] if isinstance(found, tuple) else found)
        return found

    PreTrainedModel.from_pretrained = classmethod(from_pretrained)
    yield
    PreTrainedModel.from_pretrained = original


@fault(
    "resume",
    replaces=(torch.optim.Optimizer, "load_state_dict"),
    seen_by=("same-resumed-lora[*]", "same-resumed-full[*-full-fp32]"),
    subtle=True,
)
def moments_resumed_through_half(original: Any, self: Any, state_dict: Any) -> None:
    """Restore an optimizer's moments through bfloat16."""
    original(self, state_dict)
    for state in self.state.values():
        for value in state.values():
            if isinstance(value, torch.Tensor) and value.ndim:
                value.copy_(value.bfloat16())


@fault(
    "resume",
    replaces=(Trainer, "_load_from_checkpoint"),
    seen_by=("same-resumed-dpo[*]",),
)
def reference_resumed_as_the_policy(original: Any, self: Any, *args: Any, **kwargs: Any) -> None:
    """Take for the reference, in a run that goes on, what the checkpoint has trained so far."""
    original(self, *args, **kwargs)
    parameters = dict(self.model.named_parameters())
    with torch.no_grad():
        for name, parameter in parameters.items():
            policy = parameters.get(name.replace(".ref.", ".default."))
            if ".ref." in name and policy is not None:
                parameter.copy_(policy)
