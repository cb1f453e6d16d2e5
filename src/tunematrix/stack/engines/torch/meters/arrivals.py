"""What backward passes bring in each step, beside what the optimizer gets, and what it then moves.

Recomputing a step's gradient takes another pass, so few steps are; this looks at all of them. What
arrives at each parameter is added up here, and must reach the optimizer but for one factor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.optimizer import Optimizer

from tunematrix.evidence.events import Arrivals
from tunematrix.stack.engines.common import Floats
from tunematrix.stack.engines.torch.meters.copies import StepCopies
from tunematrix.stack.engines.torch.meters.gradients import SMALL, followed
from tunematrix.stack.engines.torch.meters.hooks import around_steps, removing
from tunematrix.stack.engines.torch.shards import end_to_end


class ArrivalMeter:
    """Adds up what autograd brings to the trained parameters from step to step.

    Args:
        model: whose parameters are followed; of a large one, some.
        copies: are taken before this meter looks.
        is_ours: whether the pass that is under way is another meter's.

    Attributes:
        steps: so far; worst: the largest error in one of them, and where it was.
        idle: tensors that a step with a gradient left as they were, and the step.
    """

    def __init__(self, model: nn.Module, copies: StepCopies, is_ours: Callable[[], bool]) -> None:
        self.copies, self.is_ours = copies, is_ours
        self.followed = [parameter for _, parameter in followed(model)]
        # By ids, since a tensor's own hash takes as long as looking at it.
        self.names = {id(parameter): name for name, parameter in followed(model)}
        self.sums: dict[int, torch.Tensor] = {}
        self.moving: list[nn.Parameter] = []
        self.steps, self.worst = 0, (0.0, "")
        self.idle: list[str] = []

    def arrived(self, parameter: nn.Parameter, gradient: torch.Tensor) -> None:
        """Add what one backward pass brings to a parameter."""
        if self.is_ours():
            return
        known = self.sums.get(id(parameter))
        # A step that a scaler of float16 left out leaves infinities behind.
        if known is None or (parameter.grad is None and not bool(torch.isfinite(known).all())):
            # No copy: since somebody holds this tensor, autograd makes the parameter's own of it.
            self.sums[id(parameter)] = gradient
        else:
            self.sums[id(parameter)] = known + gradient

    def before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Hold what the optimizer gets to what has arrived, and remember what it will change."""
        groups = [(p, float(g["lr"])) for g in optimizer.param_groups for p in g["params"]]
        rates = {id(p): rate for p, rate in groups if id(p) in self.names}
        got = {id(p): p.grad for p, _ in groups if id(p) in rates and p.grad is not None}
        either = [p for p in self.followed if id(p) in got or id(p) in self.sums]
        if not either:
            return
        arrived, due = _both(either, got, self.sums)
        places = _places(either)
        self._compare(either, _errors(arrived, due, places))
        pulled = _pulled(either, _largest(arrived, places))
        self.moving = [p for p in pulled if rates.get(id(p), 0) > 0]

    def after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Note what has not moved, and begin anew."""
        if self.moving:
            still = self.copies.still()
            names = [self.names[id(p)] for p in self.moving if id(p) in still]
            self.idle += [f"{name} in step {self.steps}" for name in names]
        self.steps += 1
        self.sums.clear()
        self.moving = []

    def event(self) -> Arrivals:
        """Say what was seen."""
        return Arrivals(self.steps, *self.worst, tuple(self.idle))

    def _compare(self, either: Sequence[nn.Parameter], errors: Floats) -> None:
        worst = int(errors.argmax())  # of nan, if there is one
        error = float(errors[worst])
        if math.isnan(error) or error > self.worst[0]:
            self.worst = (error, f"{self.names[id(either[worst])]} in step {self.steps}")


@contextmanager
def watch(meter: ArrivalMeter) -> Iterator[None]:
    """Let `meter` see what arrives, and the steps of any optimizer, meanwhile."""
    handles = [
        parameter.register_hook(lambda gradient, own=parameter: meter.arrived(own, gradient))
        for parameter in meter.followed
    ]
    with removing(*handles), around_steps(meter.before, meter.after):
        yield


def _both(
    parameters: Sequence[nn.Parameter],
    some: Mapping[int, torch.Tensor],
    others: Mapping[int, torch.Tensor],
) -> tuple[Floats, Floats]:
    """Return what each mapping knows of all parameters by their ids, and zeros where nothing is.

    In float32 and end to end: of small ones, NumPy takes a fraction of the time that PyTorch takes
    to find its operators.
    """
    found = [
        torch.zeros_like(p) if (one := known.get(id(p))) is None else one
        for known in (some, others)
        for p in parameters
    ]
    with torch.no_grad():
        flat = end_to_end([one if one.dtype == torch.float32 else one.float() for one in found])
    # Not by `split`: as any code that a pass of the model has driven out of the cache, it takes
    # five times as long there as it seems to.
    half = len(flat) // 2
    values: Floats = flat.cpu().numpy()
    return values[:half], values[half:]


def _places(parameters: Sequence[nn.Parameter]) -> list[int]:
    """Return where each parameter begins, when they lie end to end."""
    return [0, *accumulate(p.numel() for p in parameters[:-1])]


def _largest(flat: Floats, places: Sequence[int]) -> Floats:
    """Return the largest magnitude from each place to the next; nan where there is one."""
    found: Floats = np.maximum.reduceat(np.abs(flat), places)
    return found


def _errors(got: Floats, due: Floats, places: Sequence[int]) -> Floats:
    """Return the largest difference in each tensor, but for one factor, over its largest value."""
    with np.errstate(all="ignore"):
        # Not by a dot product: summed up one by one in float32, the factor alone would be off by
        # as much as the bound allows, while `sum` adds in pairs.
        square = (due * due).sum()
        factor = (got * due).sum() / square if square else np.float32(1)
        errors = _largest(got - factor * due, places)
        largest = _largest(due, places) * abs(factor)
        largest = np.maximum(largest, SMALL * largest.max())
        return np.where((errors == 0) & (largest == 0), 0, errors / largest)


def _pulled(parameters: Sequence[nn.Parameter], largest: Floats) -> list[nn.Parameter]:
    """Return those in float32 whose gradient is no mere rounding beside the step's largest.

    Coarser ones may round a whole update away, which other checks tell.
    """
    floor = SMALL * largest.max()
    return [
        parameter
        for parameter, size in zip(parameters, largest, strict=True)
        if size > 0 and size >= floor and parameter.dtype == torch.float32
    ]
