"""Faults in what a step allocates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from bitsandbytes import functional
from peft import PeftModel
from transformers import PreTrainedModel, Trainer

from tunematrix.configuration import Configuration
from tunematrix.faults.catalogue import fault
from tunematrix.faults.patching import replaced

MEGABYTES = 200


@fault("memory", replaces=(torch.Tensor, "backward"), seen_by=("memory[*]",), fitted=True)
def transient_allocation(original: Any, loss: Any, *args: Any, **kwargs: Any) -> None:
    """Allocate 200 MB before each backward pass, when most is in use, and free them again.

    Stands for copies that live for a moment (an upcast of the logits, a gathered state) and that
    max(before, after) never shows.
    """
    # Written to, since untouched pages take no memory.
    torch.empty(MEGABYTES * 1_000_000, dtype=torch.uint8).fill_(1)
    original(loss, *args, **kwargs)


@fault("memory", seen_by=("memory[*]",), fitted=True)
def activations_kept(config: Configuration) -> Iterator[None]:
    """Keep every activation that autograd saves, of all steps.

    Stands for metrics that hold on to a loss and the graph behind it
    (huggingface/transformers#6939).
    """
    kept: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    def wrap(original: Any) -> Any:
        def step(*args: Any, **kwargs: Any) -> Any:
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                return original(*args, **kwargs)

        return step

    with replaced(Trainer, "training_step", wrap):
        yield


@fault("memory", seen_by=("memory[*]",), fitted=True)
def weights_copied(config: Configuration) -> Iterator[None]:
    """Keep a copy of all weights while training, frozen ones included.

    Stands for averages of weights, and for best models that are kept in memory.
    """
    kept: list[torch.Tensor] = []

    def wrap(original: Any) -> Any:
        def train(trainer: Any, *args: Any, **kwargs: Any) -> Any:
            kept.extend(parameter.detach().clone() for parameter in trainer.model.parameters())
            return original(trainer, *args, **kwargs)

        return train

    with replaced(Trainer, "train", wrap):
        yield


@fault("memory", seen_by=("lora[*-lora-none]",), fitted=True)
def base_kept_beside_its_adapter(config: Configuration) -> Iterator[None]:
    """Keep a copy of the base's weights from when an adapter is put onto it.

    Stands for references that are loaded though the base without its adapter is one, and for what
    is kept to take an adapter off again.
    """
    kept: list[dict[str, torch.Tensor]] = []

    def wrap(original: Any) -> Any:
        def attach(attached: Any, model: Any, *args: Any, **kwargs: Any) -> None:
            kept.append({name: weight.clone() for name, weight in model.state_dict().items()})
            original(attached, model, *args, **kwargs)

        return attach

    with replaced(PeftModel, "__init__", wrap):
        yield
    kept.clear()


@fault("memory", replaces=(Trainer, "training_step"), seen_by=("memory[*]", "lora[*-lora-none]"))
def frozen_weights_get_gradients(
    original: Any, trainer: Any, model: Any, *args: Any, **kwargs: Any
) -> Any:
    """Ask for gradients of the base as well, once the optimizer has been made without it.

    Stands for a base that is unfrozen too late to train: its gradients take as much memory as it
    does, add up from step to step, and take part in clipping.
    """
    frozen = [p for p in model.parameters() if not p.requires_grad]
    for parameter in (p for p in frozen if p.is_floating_point()):
        parameter.requires_grad_(True)
    return original(trainer, model, *args, **kwargs)


@fault("memory", seen_by=("memory-bnb[*]",))
def dequantized_weights_kept(config: Configuration) -> Iterator[None]:
    """Keep the weights that bitsandbytes dequantizes for the backward pass.

    Stands for caches that make 4 bits of 32 again as soon as training begins.
    """
    kept: dict[int, torch.Tensor] = {}

    def wrap(original: Any) -> Any:
        def dequantize(packed: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            found: torch.Tensor = original(packed, *args, **kwargs)
            kept[packed.data_ptr()] = found
            return found

        return dequantize

    with replaced(functional, "dequantize_4bit", wrap):
        yield


@fault("memory", seen_by=("checkpointing[*-lora-none]",), fitted=True)
def recomputed_and_kept(config: Configuration) -> Iterator[None]:
    """Keep the activations that checkpointing computes a second time.

    Stands for checkpointing that costs its time and spares nothing, since something else refers to
    what it lets go.
    """
    kept: list[torch.Tensor] = []

    def wrap(original: Any) -> Any:
        def init(hooks: Any, pack: Any, unpack: Any) -> None:
            def keep(tensor: torch.Tensor) -> Any:
                kept.append(tensor)
                return pack(tensor)

            original(hooks, keep, unpack)

        return init

    def step(original: Any) -> Any:
        def train(*args: Any, **kwargs: Any) -> Any:
            kept.clear()
            return original(*args, **kwargs)

        return train

    with (
        replaced(torch.autograd.graph.saved_tensors_hooks, "__init__", wrap),
        replaced(Trainer, "training_step", step),
    ):
        yield


@fault(
    "memory",
    replaces=(PreTrainedModel, "_set_gradient_checkpointing"),
    seen_by=("checkpointing[*-lora-none]", "checkpointing[*-full-none]"),
    fitted=True,
)
def recomputed_in_part(original: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
    """Checkpoint every second of the decoder's layers; the others keep their activations.

    Stands for layers that know nothing of it, and for a stride that somebody else's default sets.
    """
    enabled = original(model, *args, **kwargs)
    on = [m for m in model.modules() if getattr(m, "gradient_checkpointing", False)]
    for layer in on[1::2]:
        layer.gradient_checkpointing = False
    return enabled


@fault("memory", seen_by=("lora[*-lora-none]", "full[*-full-none]"), fitted=True)
def doubled_while_training(config: Configuration) -> Iterator[None]:
    """Keep a copy of all weights from the first step on, and let go of it when training ends.

    Stands for averages of weights and snapshots that belong to the trainer.
    """
    kept: list[torch.Tensor] = []

    def wrap(original: Any) -> Any:
        def train(trainer: Any, *args: Any, **kwargs: Any) -> Any:
            kept.extend(parameter.detach().clone() for parameter in trainer.model.parameters())
            try:
                return original(trainer, *args, **kwargs)
            finally:
                kept.clear()

        return train

    with replaced(Trainer, "train", wrap):
        yield


@fault("memory", seen_by=("lora[*-lora-none]", "full[*-full-none]"), fitted=True)
def grows_with_each_step(config: Configuration) -> Iterator[None]:
    """Keep what each step's batch has embedded, until training ends.

    Stands for lists of outputs that are gathered for metrics (huggingface/transformers#6939).
    """
    kept: list[torch.Tensor] = []

    def wrap(original: Any) -> Any:
        def step(trainer: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            embedded = model.get_input_embeddings()(inputs["input_ids"])
            kept.append(embedded.detach().clone())
            return original(trainer, model, inputs, *args, **kwargs)

        return step

    with replaced(Trainer, "training_step", wrap), replaced(Trainer, "train", _forgetting(kept)):
        yield


@fault("memory", seen_by=("full[*-full-none]",), fitted=True)
def gradients_kept_while_training(config: Configuration) -> Iterator[None]:
    """Keep a copy of the last gradients beside them, until training ends.

    Stands for buffers of a reduction that aren't views of the gradients, so that there are two.
    """
    kept: dict[int, torch.Tensor] = {}

    def wrap(original: Any) -> Any:
        def step(trainer: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
            loss = original(trainer, model, *args, **kwargs)
            for number, parameter in enumerate(model.parameters()):
                if parameter.grad is not None:
                    kept[number] = parameter.grad.clone()
            return loss

        return step

    with replaced(Trainer, "training_step", wrap), replaced(Trainer, "train", _forgetting(kept)):
        yield


def _forgetting(kept: list[Any] | dict[int, Any]) -> Callable[[Any], Any]:
    """Return what makes a trainer let go of `kept` when training ends."""

    def end(original: Any) -> Any:
        def train(*args: Any, **kwargs: Any) -> Any:
            try:
                return original(*args, **kwargs)
            finally:
                kept.clear()

        return train

    return end
