"""Faults of a single step: nobody looks again at what was right at first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import torch
from torch import nn
from torch.optim import adam
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

from tunematrix.configuration import Configuration
from tunematrix.faults.catalogue import fault

WHEN = 7
"""The step, from 1: neither among the first, nor the one in the middle of a usual cell."""
CALLED = 2 * WHEN - 1
"""The call of AdamW's function that takes this step: Trainer makes two groups, one that decays."""
SEEN = ("lora[*-lora-none]", "full[*-full-none]")


@fault("gradients", seen_by=SEEN, fitted=True)
def gradients_of_the_step_before(config: Configuration) -> Iterator[None]:
    """Step once with the gradients of the step before.

    Stands for gradients that are copied to another device or offloaded while the next ones come,
    and are read too early.
    """
    with _stale(lambda number, total: True):
        yield


@fault("gradients", seen_by=SEEN, fitted=True)
def one_gradient_of_the_step_before(config: Configuration) -> Iterator[None]:
    """Step once with one tensor's gradient of the step before.

    Stands for buckets of an overlapped reduction of which one isn't waited for.
    """
    with _stale(lambda number, total: number == total // 2):
        yield


@fault("gradients", replaces=(nn.Module, "zero_grad"), seen_by=SEEN, fitted=True)
def zeroing_forgotten_once(original: Any, model: Any, *args: Any, call: int, **kwargs: Any) -> None:
    """Leave the gradients of one step for the next to add to.

    Stands for loops that skip the rest of an iteration, and with it the line that zeroes.
    """
    if call != WHEN:
        original(model, *args, **kwargs)


@fault("optimizer", replaces=(adam, "adam"), seen_by=SEEN, fitted=True)
def updated_in_a_copy_once(original: Any, params: Any, *args: Any, call: int, **kwargs: Any) -> Any:
    """Let one step update a copy of a tensor, which is dropped.

    Stands for tensors that aren't contiguous, or are gathered for the step, and aren't written back
    (huggingface/peft#3348 shows the same of a merge).
    """
    return original(_one_copied(params) if call == CALLED else params, *args, **kwargs)


@fault("optimizer", replaces=(adam, "adam"), seen_by=SEEN, fitted=True)
def updated_in_a_copy_from_then_on(
    original: Any, params: Any, *args: Any, call: int, **kwargs: Any
) -> Any:
    """Let all later steps update a copy of a tensor.

    Stands for optimizers that keep a flat buffer, of which a view is lost when something is moved.
    """
    return original(_one_copied(params) if call >= CALLED else params, *args, **kwargs)


@fault("optimizer", seen_by=SEEN, fitted=True)
def model_has_another_tensor(config: Configuration) -> Iterator[None]:
    """Give the model a copy of one trained tensor halfway; the optimizer keeps the old one.

    Stands for layers that are cast, moved or wrapped once the optimizer has been made.
    """
    calls = count(1)

    def wrap(module: nn.Module, args: Any) -> None:
        own = [n for n, p in module.named_parameters(recurse=False) if p.requires_grad]
        if own and module.training and torch.is_grad_enabled() and next(calls) == 10 * WHEN:
            old = module._parameters[own[0]]
            module._parameters[own[0]] = nn.Parameter(old.detach().clone())

    handle = nn.modules.module.register_module_forward_pre_hook(wrap)
    try:
        yield
    finally:
        handle.remove()


def _one_copied(params: Any) -> list[torch.Tensor]:
    """Return tensors, one of which is a copy: neither the first, the middle one nor the last."""
    third = len(params) // 3
    return [p.clone() if number == third else p for number, p in enumerate(params)]


@contextmanager
def _stale(chosen: Callable[[int, int], bool]) -> Iterator[None]:
    """Let chosen tensors keep the gradient of the step before in one step."""
    last: dict[int, torch.Tensor] = {}
    steps = count(1)

    def before(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        step = next(steps)
        for number, parameter in enumerate(trained):
            gradient = parameter.grad
            if gradient is None:
                continue
            if step == WHEN and chosen(number, len(trained)):
                gradient.copy_(last[number])
            last[number] = gradient.detach().clone() if step == WHEN - 1 else gradient

    handle = register_optimizer_step_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()
