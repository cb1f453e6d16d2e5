"""Dtypes of what trains: parameters, their gradients, and what the optimizer keeps of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim.optimizer import Optimizer

from tunematrix.evidence.events import TrainedDtypes
from tunematrix.stack.engines.torch.meters.compute import dtype_name
from tunematrix.stack.engines.torch.meters.hooks import around_steps
from tunematrix.stack.yardsticks.audit import AUDITED_STEPS


class DtypeMeter:
    """Looks at any optimizer around its first steps."""

    def __init__(self) -> None:
        self.steps = 0
        self.parameters: set[str] = set()
        self.gradients: set[str] = set()
        self.state: set[str] = set()

    def before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Look at parameters and gradients as the optimizer gets them."""
        if self.steps >= AUDITED_STEPS:
            return
        for group in optimizer.param_groups:
            trained = [p for p in group["params"] if p.grad is not None]
            self.parameters |= {dtype_name(p.dtype) for p in trained}
            self.gradients |= {dtype_name(p.grad.dtype) for p in trained}

    def after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Look at the moments that it keeps; a number for a whole tensor isn't one."""
        self.steps += 1
        if self.steps > AUDITED_STEPS:
            return
        kept = (value for state in optimizer.state.values() for value in state.values())
        self.state |= {
            dtype_name(value.dtype)
            for value in kept
            if isinstance(value, torch.Tensor) and value.dim()
        }

    def event(self) -> TrainedDtypes:
        """Say what was seen."""
        seen = (self.parameters, self.gradients, self.state)
        return TrainedDtypes(*(tuple(sorted(names)) for names in seen))


@contextmanager
def watch(meter: DtypeMeter) -> Iterator[None]:
    """Let `meter` see the steps of any optimizer meanwhile."""
    with around_steps(meter.before, meter.after):
        yield
