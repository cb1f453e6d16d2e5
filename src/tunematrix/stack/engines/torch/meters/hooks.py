"""PyTorch's hooks, for as long as somebody looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

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


@contextmanager
def around_steps(before: OfAStep, after: OfAStep) -> Iterator[None]:
    """Call one before and the other after each step of any optimizer, whoever drives it."""
    with removing(
        register_optimizer_step_pre_hook(before), register_optimizer_step_post_hook(after)
    ):
        yield
