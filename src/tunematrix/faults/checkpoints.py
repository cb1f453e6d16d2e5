"""Faults in what is saved: tensors, and the settings that go with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, peft_model
from peft.config import PeftConfigMixin
from peft.utils.other import ModulesToSaveWrapper
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel, modeling_utils

from tunematrix.configuration import Configuration
from tunematrix.faults.catalogue import fault
from tunematrix.faults.patching import replaced

Tensors = dict[str, torch.Tensor]


@fault("checkpoint", fitted=True, subtle=True)
def saved_in_half_precision(config: Configuration) -> Iterator[None]:
    """Round every tensor to bfloat16 as it is saved, and keep float32 as its dtype.

    Stands for exports that go through a smaller dtype on their way to the disk.
    """

    def rounded(tensors: Tensors) -> Tensors:
        return {name: t.bfloat16().to(t.dtype) for name, t in tensors.items()}

    with _saving(rounded):
        yield


@fault("checkpoint")
def one_tensor_by_its_wrapped_name(config: Configuration) -> Iterator[None]:
    """Save one tensor by the name that a compiled module gives it.

    Stands for wrappers whose prefix gets into the file, where no loader looks for it
    (pytorch/pytorch#101107).
    """

    def renamed(tensors: Tensors) -> Tensors:
        odd = sorted(name for name in tensors if "layers.1.mlp" in name)[0]
        wrapped = odd.replace("layers.1.mlp", "layers.1.mlp._orig_mod")
        return {wrapped if name == odd else name: tensor for name, tensor in tensors.items()}

    with _saving(renamed):
        yield


@fault("checkpoint")
def last_step_not_saved(config: Configuration) -> Iterator[None]:
    """Save the weights that the last optimizer step began with.

    Stands for copies that are taken while training goes on, and written afterwards.
    """
    stale: list[tuple[torch.Tensor, torch.Tensor]] = []

    def before(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        stale[:] = [(p, p.detach().clone()) for p in trained]

    def wrap(original: Any) -> Any:
        def save(model: Any, *args: Any, **kwargs: Any) -> None:
            now = [parameter.detach().clone() for parameter, _ in stale]
            _put(stale)
            original(model, *args, **kwargs)
            _put([(p, value) for (p, _), value in zip(stale, now, strict=True)])

        return save

    handle = register_optimizer_step_pre_hook(before)
    try:
        with (
            replaced(PeftModel, "save_pretrained", wrap),
            replaced(PreTrainedModel, "save_pretrained", wrap),
        ):
            yield
    finally:
        handle.remove()


@fault("checkpoint", seen_by=("lora[*-lora-none]", "same-loaded[*-toy-llama-lora]"), fitted=True)
def alpha_not_saved(config: Configuration) -> Iterator[None]:
    """Leave alpha out of an adapter's configuration, so that loaders take their default.

    Stands for configurations that are written by one version and read by another.
    """
    with _configured(PeftConfigMixin, "adapter_config.json", "lora_alpha"):
        yield


@fault("checkpoint", seen_by=("full[*-full-none]",), fitted=True)
def end_of_texts_not_saved(config: Configuration) -> Iterator[None]:
    """Leave the end token out of the generation config that is saved with a model.

    Stands for fine-tuned models that never stop: their weights are right, and logits show nothing.
    """
    with _configured(GenerationConfig, "generation_config.json", "eos_token_id"):
        yield


@fault("checkpoint", seen_by=("full[*-full-none]",), fitted=True, subtle=True)
def rotary_base_not_saved(config: Configuration) -> Iterator[None]:
    """Save a configuration whose rotary base is 1 % too large.

    Stands for settings that move or are renamed in a new version of a configuration, so that those
    saved before are read otherwise.
    """

    def change(settings: dict[str, Any]) -> None:
        settings["rope_parameters"]["rope_theta"] *= 1.01

    with _rewritten(PreTrainedConfig, "config.json", change):
        yield


@fault("checkpoint", seen_by=("full[*-full-none]",), fitted=True, subtle=True)
def another_dtype_in_the_settings(config: Configuration) -> Iterator[None]:
    """Write float16 into the configuration that is saved beside weights of another dtype.

    Stands for configurations that keep a base's dtype: loaders that go by it round the weights.
    """
    with _rewritten(
        PreTrainedConfig, "config.json", lambda settings: settings.update(dtype="float16")
    ):
        yield


@fault("checkpoint", seen_by=("architectures[*-untied-llama-full]",), fitted=True)
def head_saved_as_tied(config: Configuration) -> Iterator[None]:
    """Save a model with a head of its own as one whose head is tied, and without that head.

    Stands for configurations that say one thing while tensors are another
    (huggingface/transformers#45127).
    """

    def headless(tensors: Tensors) -> Tensors:
        return {name: tensor for name, tensor in tensors.items() if "lm_head" not in name}

    def tie(settings: dict[str, Any]) -> None:
        settings["tie_word_embeddings"] = True

    with _saving(headless), _rewritten(PreTrainedConfig, "config.json", tie):
        yield


@fault(
    "checkpoint",
    replaces=(PeftModel, "save_pretrained"),
    seen_by=("modules-to-save[*-lora-none]",),
    fitted=True,
)
def whole_modules_saved_untrained(original: Any, model: Any, *args: Any, **kwargs: Any) -> None:
    """Save modules that were trained whole, beside an adapter, as they were before.

    Stands for wrappers that keep two copies of a module, and hand over the one that rests.
    """
    wrappers = [m for m in model.modules() if isinstance(m, ModulesToSaveWrapper)]
    pairs = [
        (trained, before)
        for wrapper in wrappers
        for copy in wrapper.modules_to_save.values()
        for trained, before in zip(
            copy.parameters(), wrapper.original_module.parameters(), strict=True
        )
    ]
    now = [(trained, trained.detach().clone()) for trained, _ in pairs]
    _put(pairs)
    original(model, *args, **kwargs)
    _put(now)


@contextmanager
def _saving(change: Callable[[Tensors], Tensors]) -> Iterator[None]:
    """Change what PEFT and transformers write into safetensors files."""

    def wrap(original: Any) -> Any:
        def save(tensors: Tensors, *args: Any, **kwargs: Any) -> None:
            original(change(tensors), *args, **kwargs)

        return save

    with (
        replaced(peft_model, "safe_save_file", wrap),
        replaced(modeling_utils, "safe_save_file", wrap),
    ):
        yield


@contextmanager
def _configured(owner: Any, file: str, lost: str) -> Iterator[None]:
    """Take a setting out of the file that `owner.save_pretrained` writes."""

    def drop(settings: dict[str, Any]) -> None:
        settings.pop(lost, None)

    with _rewritten(owner, file, drop):
        yield


@contextmanager
def _rewritten(owner: Any, file: str, change: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Change the settings that `owner.save_pretrained` writes into `file`."""

    def wrap(original: Any) -> Any:
        def save(settings: Any, folder: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(settings, folder, *args, **kwargs)
            path = Path(folder) / file
            written = json.loads(path.read_text("utf-8"))
            change(written)
            path.write_text(json.dumps(written), "utf-8")
            return result

        return save

    with replaced(owner, "save_pretrained", wrap):
        yield


def _put(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
    with torch.no_grad():
        for parameter, value in pairs:
            parameter.copy_(value)
