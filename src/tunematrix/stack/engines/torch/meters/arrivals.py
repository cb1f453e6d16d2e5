"""What backward passes bring in each step, beside what the optimizer gets, and what it then moves.

Recomputing a step's gradient takes another pass, so few steps are; this looks at all of them. What
arrives at each parameter is added up here, and must reach the optimizer but for one factor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import Optimizer

from tunematrix.evidence.events import Arrivals
from tunematrix.stack.engines.torch.meters.gradients import SMALL, followed
from tunematrix.stack.engines.torch.meters.hooks import around_steps, removing


class ArrivalMeter:
    """Adds up what autograd brings to the trained parameters from step to step.

    Args:
        model: whose parameters are followed; of a large one, some.
        is_ours: whether the pass that is under way is another meter's.

    Attributes:
        steps: so far; worst: the largest error in one of them, and where it was.
        idle: tensors that a step with a gradient left as they were, and the step.
    """

    def __init__(self, model: nn.Module, is_ours: Callable[[], bool]) -> None:
        self.is_ours = is_ours
        self.names = {parameter: name for name, parameter in followed(model)}
        self.sums: dict[nn.Parameter, torch.Tensor] = {}
        self.before_step: list[tuple[nn.Parameter, torch.Tensor]] = []
        self.steps, self.worst = 0, (0.0, "")
        self.idle: list[str] = []

    def arrived(self, parameter: nn.Parameter, gradient: torch.Tensor) -> None:
        """Add what one backward pass brings to a parameter."""
        if self.is_ours():
            return
        known = self.sums.get(parameter)
        # A step that a scaler of float16 left out leaves infinities behind.
        if known is None or (parameter.grad is None and not bool(torch.isfinite(known).all())):
            # No copy: since somebody holds this tensor, autograd makes the parameter's own of it.
            self.sums[parameter] = gradient
        else:
            self.sums[parameter] = known + gradient

    def before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Hold what the optimizer gets to what has arrived, and remember what it will change."""
        groups = [(p, float(g["lr"])) for g in optimizer.param_groups for p in g["params"]]
        rates = {p: rate for p, rate in groups if p in self.names}
        got = {p: p.grad.detach() for p in rates if p.grad is not None}
        self._compare(got)
        pulled = _pulled(got)
        self.before_step = [(p, p.detach().clone()) for p in pulled if rates[p] > 0]

    def after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Note what has not moved, and begin anew."""
        still = [p for p, old in self.before_step if torch.equal(old, p)]
        self.idle += [f"{self.names[p]} in step {self.steps}" for p in still]
        self.steps += 1
        self.sums.clear()
        self.before_step = []

    def event(self) -> Arrivals:
        """Say what was seen."""
        return Arrivals(self.steps, *self.worst, tuple(self.idle))

    def _compare(self, got: Mapping[nn.Parameter, torch.Tensor]) -> None:
        either = [p for p in self.names if p in got or p in self.sums]
        if not either:
            return
        errors = _errors(_filled(either, got), _filled(either, self.sums))
        worst = int(errors.argmax())  # of nan, if there is one
        error = float(errors[worst])
        if math.isnan(error) or error > self.worst[0]:
            self.worst = (error, f"{self.names[either[worst]]} in step {self.steps}")


@contextmanager
def watch(meter: ArrivalMeter) -> Iterator[None]:
    """Let `meter` see what arrives, and the steps of any optimizer, meanwhile."""
    handles = [
        parameter.register_hook(lambda gradient, own=parameter: meter.arrived(own, gradient))
        for parameter in meter.names
    ]
    with removing(*handles), around_steps(meter.before, meter.after):
        yield


def _filled(
    parameters: Sequence[nn.Parameter], known: Mapping[nn.Parameter, torch.Tensor]
) -> list[torch.Tensor]:
    """Return what is known of each parameter in float32, and zeros where nothing is."""
    found = (known[p] if p in known else torch.zeros_like(p) for p in parameters)
    return [one.detach().float() for one in found]


def _errors(got: Sequence[torch.Tensor], due: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the largest difference in each tensor, but for one factor, over its largest value."""
    # Summed up in float32, the factor alone would be off by as much as the bound allows.
    all_got, all_due = (torch.cat([one.flatten() for one in some]).double() for some in (got, due))
    square = float(all_due @ all_due)
    factor = float(all_got @ all_due) / square if square else 1.0
    scaled = torch._foreach_mul(list(due), factor)
    errors = torch.stack(torch._foreach_norm(torch._foreach_sub(list(got), scaled), math.inf))
    sizes = torch.stack(torch._foreach_norm(scaled, math.inf))
    sizes = sizes.clamp(min=SMALL * float(sizes.max()))
    return torch.where((errors == 0) & (sizes == 0), 0.0, errors / sizes)


def _pulled(got: Mapping[nn.Parameter, torch.Tensor]) -> list[nn.Parameter]:
    """Return those in float32 whose gradient is no mere rounding beside the step's largest.

    Coarser ones may round a whole update away, which other checks tell.
    """
    if not got:
        return []
    sizes = torch.stack(torch._foreach_norm([one.float() for one in got.values()], math.inf))
    floor = SMALL * float(sizes.max())
    return [
        parameter
        for parameter, size in zip(got, sizes.tolist(), strict=True)
        if size > 0 and size >= floor and parameter.dtype == torch.float32
    ]
