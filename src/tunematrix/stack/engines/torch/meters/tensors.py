"""Whole tensors for relations to compare: gradients, parameters, optimizer state, generators.

They are read at PyTorch's own optimizer hooks, whichever trainer drives the steps.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim.optimizer import Optimizer

from tunematrix.evidence.tensors import Array, TensorKey
from tunematrix.stack.engines.torch.meters.hooks import around_steps
from tunematrix.stack.engines.torch.shards import whole
from tunematrix.stack.releases import current_accelerator
from tunematrix.stack.yardsticks.names import canonical

Keep: TypeAlias = Callable[[TensorKey, Array], None]
"""Takes what a tensor is, and the tensor."""


@contextmanager
def watch(model: nn.Module, keep: Keep) -> Iterator[None]:
    """Keep what every step got and made of it, and at the end the states that would go on.

    Sharded tensors are gathered, so every process of a run has to watch.
    """
    step = 0
    last: Optimizer | None = None

    def before(optimizer: Optimizer, args: object, kwargs: object) -> None:
        for name, parameter in _trained(model):
            if step == 0:
                keep(TensorKey("parameter", 0, name), as_array(parameter))
            if parameter.grad is not None:
                keep(TensorKey("gradient", step, name), as_array(parameter.grad))

    def after(optimizer: Optimizer, args: object, kwargs: object) -> None:
        nonlocal step, last
        step, last = step + 1, optimizer
        for name, parameter in _trained(model):
            keep(TensorKey("parameter", step, name), as_array(parameter))

    with around_steps(before, after):
        yield
    if last is not None:
        _keep_state(model, last, keep)
    for generator, state in generators().items():
        keep(TensorKey("random", name=generator), state)


def as_array(tensor: torch.Tensor) -> Array:
    """Copy a tensor, sharded or not, as a float32 array."""
    return whole(tensor.detach()).to("cpu", torch.float32).numpy().copy()


def generators() -> dict[str, NDArray[np.uint8]]:
    """Return the exact state of each random generator, by its name."""
    states = {
        "python": _bytes(repr(random.getstate()).encode()),
        "numpy": _bytes(_numpy_state()),
        "torch": torch.get_rng_state().numpy(),
    }
    if device := current_accelerator():
        module = torch.get_device_module(device)
        states[device.type] = module.get_rng_state().cpu().numpy()
    return states


def _numpy_state() -> bytes:
    _, key, *rest = np.random.get_state(legacy=True)
    return np.asarray(key).tobytes() + repr(rest).encode()


def _bytes(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8)


def _trained(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    # Asked for again at each step, since sharding replaces parameters when a trainer begins.
    return ((canonical(n), p) for n, p in model.named_parameters() if p.requires_grad)


def _keep_state(model: nn.Module, optimizer: Optimizer, keep: Keep) -> None:
    for name, parameter in _trained(model):
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is not None:
                keep(TensorKey("state", None, name, key), as_array(torch.as_tensor(value)))
