"""PyTorch's hooks, for as long as somebody looks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils.hooks import RemovableHandle

OfAStep = Callable[[Optimizer, Any, Any], None]
"""Takes an optimizer, and the arguments of its step."""


@contextmanager
def removing(*handles: RemovableHandle) -> Iterator[None]:
    """Remove hooks in the end, whatever happens meanwhile."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def tensors_of(output: Any) -> list[torch.Tensor]:
    """Return the tensors in what a model gives back; TRL's own has a loss, and no logits."""
    return [one for one in vars(output).values() if isinstance(one, torch.Tensor)]


class Posts:
    """Hooks of modules that are looked at for a while: each one slows down all calls of its module.

    They may come and go while the module is called.
    """

    def __init__(self) -> None:
        self._handles: dict[int, list[RemovableHandle]] = {}

    def __contains__(self, module: nn.Module) -> bool:
        return id(module) in self._handles

    def put(self, module: nn.Module, handles: Iterable[RemovableHandle]) -> None:
        """Remember hooks that have been registered for the sake of a module."""
        self._handles.setdefault(id(module), []).extend(handles)

    def leave(self, module: nn.Module) -> None:
        """Remove all that have been registered for the sake of a module."""
        for handle in self._handles.pop(id(module), ()):
            handle.remove()

    def leave_all(self) -> None:
        """Remove all."""
        for handles in self._handles.values():
            for handle in handles:
                handle.remove()
        self._handles.clear()


@contextmanager
def around_steps(before: OfAStep, after: OfAStep) -> Iterator[None]:
    """Call one before and the other after each step of any optimizer, whoever drives it."""
    with removing(
        register_optimizer_step_pre_hook(before), register_optimizer_step_post_hook(after)
    ):
        yield
