"""One forward pass made again: the same inputs, random numbers, mode and autocast."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from . import structure
from .models import Model

KNOWN_HOOKS = ("torch.", "accelerate.", "peft.", "transformers.", "trl.", "bitsandbytes.")
"""Where hooks of modules may come from: those of others may remember each call."""
SCALARS = (int, float, bool, str, type(None))
COMPARED = 64
"""Elements of each output that must come out as they did."""


@dataclass
class RandomStates:
    """States of all generators of random numbers."""

    cpu: torch.Tensor
    devices: list[tuple[Any, torch.Tensor]]
    python: Any
    numpy: Any

    @classmethod
    def now(cls, device: torch.device) -> RandomStates:
        """Read them, with that of an accelerator."""
        devices = []
        if device.type in ("cuda", "xpu", "mps"):
            devices.append((device, _library(device).get_rng_state(*_index(device))))
        numpy = sys.modules.get("numpy")
        state = numpy.random.get_state() if numpy is not None else None
        return cls(torch.get_rng_state(), devices, random.getstate(), state)

    def restore(self) -> None:
        """Draw from here on as it was then."""
        torch.set_rng_state(self.cpu)
        for device, state in self.devices:
            _library(device).set_rng_state(state, *_index(device))
        random.setstate(self.python)
        if self.numpy is not None:
            sys.modules["numpy"].random.set_state(self.numpy)


def _library(device: torch.device) -> Any:
    return getattr(torch, device.type)


def _index(device: torch.device) -> tuple[Any, ...]:
    return () if device.type == "mps" else (device,)


@dataclass
class Pass:
    """A forward pass of an audited step, until it has been made again.

    Attributes:
        draws: before it; autocast: kind of device, dtype and whether it was on; args, kwargs: what
            the model was given; shown: some elements of each output, by its path.
        arrived: gradient that arrived at each output, by its path; repeated: whether it has been.
        step, pass_number: as in `SeenBatch`.
    """

    model: Model
    draws: RandomStates
    autocast: tuple[str, Any, bool]
    step: int = 0
    pass_number: int = 0
    args: Any = ()
    kwargs: Any = None
    training: bool = True
    versions: list[tuple[Any, int]] = field(default_factory=list)
    shown: dict[str, torch.Tensor] = field(default_factory=dict)
    arrived: dict[str, torch.Tensor] = field(default_factory=dict)
    model_loss: float | None = None
    repeated: bool = False


def autocast_now(device: torch.device) -> tuple[str, Any, bool]:
    """Return how autocast is set for a device."""
    kind = device.type
    try:
        return kind, torch.get_autocast_dtype(kind), bool(torch.is_autocast_enabled(kind))
    except (AttributeError, TypeError):
        pass
    # Releases of PyTorch before 2.4 have a function for each kind of device.
    if kind == "cpu":
        return kind, torch.get_autocast_cpu_dtype(), bool(torch.is_autocast_cpu_enabled())
    return kind, torch.get_autocast_gpu_dtype(), bool(torch.is_autocast_enabled())


def some_of(tensor: torch.Tensor) -> torch.Tensor:
    """Copy a few elements of an output, spread evenly."""
    values = tensor.detach().reshape(-1)
    return values[:: max(1, values.numel() // COMPARED)].clone()


def reason_against(model: Model) -> str:
    """Say why a model's passes had better not be repeated; empty where they can be."""
    inner = model.inner()
    for module in inner.modules():
        hooks = [
            *module._forward_hooks.values(),
            *module._forward_pre_hooks.values(),
            *module._backward_hooks.values(),
            *module._backward_pre_hooks.values(),
        ]
        for hook in hooks:
            origin = getattr(hook, "__module__", "") or ""
            if not origin.startswith((*KNOWN_HOOKS, __package__ or "")):
                return f"{type(module).__name__} has a hook of {origin or 'its own'}"
    return ""


@contextmanager
def left_alone(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Leave random numbers, buffers and plain attributes of modules as they are before."""
    draws = RandomStates.now(device)
    scalars = [
        (vars(m), {k: v for k, v in vars(m).items() if isinstance(v, SCALARS)})
        for m in model.modules()
    ]
    buffers = [(b, b.detach().clone()) for b in model.buffers()]
    hooks = [(p, p._backward_hooks) for p in model.parameters() if p._backward_hooks]
    kept = [(entries, dict(entries)) for _, entries in hooks]
    for entries, _ in kept:
        entries.clear()
    with ExitStack() as stack:
        preserve = getattr(torch.autograd, "_unsafe_preserve_version_counter", None)
        if preserve is not None:
            for buffer, _ in buffers:
                stack.enter_context(preserve(buffer))
        try:
            yield
        finally:
            with torch.no_grad():
                # Batch norm writes to its buffers without a trace in their versions.
                for buffer, copy in buffers:
                    buffer.copy_(copy)
            for entries, before in kept:
                entries.update(before)
            for attributes, values in scalars:
                for name, value in values.items():
                    if attributes.get(name) is not value:
                        attributes[name] = value
            draws.restore()


@contextmanager
def without_checkpointing(model: nn.Module) -> Iterator[None]:
    """Let a model of transformers keep its activations: some ways to recompute allow no other."""
    on: list[Any] = [m for m in model.modules() if vars(m).get("gradient_checkpointing", False)]
    for module in on:
        module.gradient_checkpointing = False
    try:
        yield
    finally:
        for module in on:
            module.gradient_checkpointing = True


def repeated(one: Pass) -> tuple[dict[str, torch.Tensor], Any]:
    """Make a pass again; return its outputs that have a graph by their paths, and all of it."""
    inner = one.model.inner()
    one.draws.restore()
    kind, dtype, enabled = one.autocast
    args, kwargs = _detached(one.args), _detached(one.kwargs or {})
    # Weights that autocast lowers here must not be taken for those of a pass of the training.
    lowered = torch.autocast(kind, dtype=dtype, enabled=enabled, cache_enabled=False)
    with torch.enable_grad(), lowered:
        output = inner(*args, **kwargs)
    outputs = {
        path: tensor for path, tensor in structure.tensors_in(output) if tensor.grad_fn is not None
    }
    return outputs, output


def _detached(value: Any) -> Any:
    """Return inputs without the graph that they come from; what isn't a container stays."""
    if isinstance(value, torch.Tensor):
        if value.grad_fn is None:
            return value
        return value.detach().requires_grad_(value.requires_grad)
    if type(value) is dict:
        return {key: _detached(entry) for key, entry in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_detached(entry) for entry in value)
    return value


def differs(one: Pass, outputs: dict[str, torch.Tensor], tolerance: float) -> str:
    """Say which output didn't come out as it did; empty where all did."""
    for path, shown in one.shown.items():
        if path not in outputs:
            return path or "the output"
        now = some_of(outputs[path])
        if now.shape != shown.shape or now.dtype != shown.dtype:
            return path or "the output"
        size = float(shown.double().abs().max())
        if not float((now.double() - shown.double()).abs().max()) <= tolerance * max(size, 1e-30):
            return path or "the output"
    return ""


def versions_of(*values: Any) -> list[tuple[Any, int]]:
    """Return the inputs' tensors with their versions, which writing into one changes."""
    found = structure.tensors_in(list(values))
    return [(tensor, tensor._version) for _, tensor in found if not tensor.is_inference()]


def changeable(value: Any, depth: int = structure.DEPTH) -> str:
    """Return the type of an input that a call may change, such as a cache; empty without one."""
    if isinstance(value, (torch.Tensor, torch.dtype, torch.device, bytes, *SCALARS)):
        return ""
    if depth and isinstance(value, Mapping):
        value = list(value.values())
    if depth and isinstance(value, (tuple, list)):
        return next((odd for entry in value if (odd := changeable(entry, depth - 1))), "")
    return type(value).__name__
