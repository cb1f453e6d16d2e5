"""What a model is made of: wrappers, parameters, adapters, dropout."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import nn

from .records import NAMES, SeenModel

WRAPPERS = {
    "DistributedDataParallel": "DDP",
    "DataParallel": "DataParallel",
    "FullyShardedDataParallel": "FSDP",
    "OptimizedModule": "compiled",
    "DeepSpeedEngine": "DeepSpeed",
}
"""Classes that only pass a call on, by name: importing them would cost, and some aren't there."""
DEPTH = 6
"""How deep outputs are searched for tensors."""


def unwrapped(module: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """Return the model inside of its wrappers, and what these are."""
    wrappers = []
    while (name := WRAPPERS.get(type(module).__name__)) is not None:
        inner = vars(module).get("_orig_mod") or module._modules.get("_orig_mod")
        inner = inner if inner is not None else module._modules.get("module")
        if not isinstance(inner, nn.Module):
            break
        wrappers.append(name)
        module = inner
    if any(hasattr(p, "_local_tensor") for p in module.parameters()):
        wrappers.append("sharded")
    return module, tuple(wrappers)


def tensors_in(value: Any, path: str = "", depth: int = DEPTH) -> Iterator[tuple[str, Any]]:
    """Yield the tensors of a model's output (or input) with the way to each, as `.logits`."""
    if isinstance(value, torch.Tensor):
        yield path, value
    elif depth == 0:
        return
    elif isinstance(value, Mapping):
        for key in list(value):
            yield from tensors_in(value[key], f"{path}.{key}", depth - 1)
    elif isinstance(value, (tuple, list)):
        for place, entry in enumerate(value):
            yield from tensors_in(entry, f"{path}.{place}", depth - 1)
    elif is_dataclass(value) and not isinstance(value, type):
        for one in fields(value):
            yield from tensors_in(getattr(value, one.name, None), f"{path}.{one.name}", depth - 1)


def dropouts_of(model: nn.Module) -> list[Any]:
    """Return the modules that drop something."""
    kind = nn.modules.dropout._DropoutNd
    return [m for m in model.modules() if isinstance(m, kind) and m.p > 0]


def norms_of(model: nn.Module) -> list[Any]:
    """Return the modules that compute otherwise in training mode, and aren't dropout."""
    kinds = (nn.modules.batchnorm._NormBase,)
    return [m for m in model.modules() if isinstance(m, kinds) and m.running_mean is not None]


def is_matrix_b(name: str) -> bool:
    """Whether a parameter's name is that of a LoRA's second matrix, which begins at zero."""
    return "lora_B" in name or "lora_b." in name or name.endswith("lora_up.weight")


def described(number: int, module: nn.Module, unaudited: str) -> SeenModel:
    """Describe a model that has just been called for the first time."""
    model, wrappers = unwrapped(module)
    named = list(model.named_parameters())
    dtypes: dict[str, int] = {}
    trainable_dtypes: dict[str, int] = {}
    devices: dict[str, int] = {}
    for _, parameter in named:
        size, dtype = parameter.numel(), str(parameter.dtype).replace("torch.", "")
        dtypes[dtype] = dtypes.get(dtype, 0) + size
        device = parameter.device.type
        devices[device] = devices.get(device, 0) + size
        if parameter.requires_grad:
            trainable_dtypes[dtype] = trainable_dtypes.get(dtype, 0) + size
    trained = [p for _, p in named if p.requires_grad]
    return SeenModel(
        model=number,
        name=type(model).__name__,
        wrappers=wrappers,
        parameters=len(named),
        trainable=len(trained),
        elements=sum(p.numel() for _, p in named),
        trainable_elements=sum(p.numel() for p in trained),
        dtypes=dtypes,
        trainable_dtypes=trainable_dtypes,
        devices=devices,
        accelerators=accelerators(),
        tied=_tied(model),
        adapters=sum(is_matrix_b(name) and p.requires_grad for name, p in named),
        dropouts=len(dropouts_of(model)),
        batch_norms=len(norms_of(model)),
        checkpointing=any(vars(m).get("gradient_checkpointing", False) for m in model.modules()),
        quantized=sum(not p.is_floating_point() for _, p in named),
        untied=_untied(model),
        unaudited=unaudited,
    )


def accelerators() -> tuple[str, ...]:
    """Return the types of accelerators that are there, without waking one."""
    found = []
    # device_count asks the driver's library; is_available would begin CUDA, after which a process
    # can't fork any more.
    if (torch.version.cuda or torch.version.hip) and torch.cuda.device_count():
        found.append("cuda")
    if sys.platform == "darwin" and torch.backends.mps.is_available():
        found.append("mps")
    return tuple(found)


def _untied(model: Any) -> bool:
    config = getattr(model, "config", None)
    into, out = (getattr(model, f"get_{way}_embeddings", None) for way in ("input", "output"))
    if not getattr(config, "tie_word_embeddings", False) or into is None or out is None:
        return False
    weights = [getattr(found(), "weight", None) for found in (into, out)]
    return None not in weights and weights[0] is not weights[1]


def _tied(model: nn.Module) -> tuple[tuple[str, ...], ...]:
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return tuple(tuple(several) for several in names.values() if len(several) > 1)[:NAMES]
