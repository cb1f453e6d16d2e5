"""The optimizer's steps, seen through PyTorch's own hooks, whoever drives them.

The first steps are recomputed here from the captured gradients by formulas of our own, and all
others for a few parameters, so that a scale, a skipped parameter or an ignored setting shows in
what the parameters did.
"""

from __future__ import annotations

import math
import re
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import Optimizer

from tunematrix.evidence.events import OptimizerStep
from tunematrix.stack.engines.torch.meters.gradients import Comparison
from tunematrix.stack.engines.torch.meters.hooks import around_steps
from tunematrix.stack.engines.torch.shards import whole
from tunematrix.stack.yardsticks.audit import AUDITED_ELEMENTS, AUDITED_STEPS, Formula, within

UNDECAYED = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)", re.IGNORECASE)
"""Names that transformers' Trainer (and the plain loop) leave without weight decay."""

NOTHING = torch.zeros(1)
"""Stands for the gradients of an optimizer whose parameters have none."""

CompareGradients = Callable[[nn.Module, set[int]], Comparison]
"""Holds a model's gradients, of the parameters that an optimizer knows, against its own."""


@dataclass
class Audit:
    """Follows a few parameters with an optimizer of its own, in float32.

    Attributes:
        formula: what each step must do; names: of parameters, by id.
        state: moments; expected: where parameters were and must be; pulled: what has a gradient.
        finest: dtype whose rounding is allowed for whatever the parameter's; None allows its own.
            The first steps show whether that is too coarse to train in; later ones needn't.
    """

    formula: Formula
    names: Mapping[int, str]
    state: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    expected: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    pulled: dict[int, torch.Tensor] = field(default_factory=dict)
    finest: torch.dtype | None = torch.float32

    def before(self, optimizer: Optimizer, step: int) -> None:
        """Compute where each parameter must be after this step; later, of some of them alone."""
        if step == AUDITED_STEPS:
            self._sample()
        followed = self.state if step >= AUDITED_STEPS else None
        self.finest = torch.float32 if step < AUDITED_STEPS else None
        self.expected, self.pulled = {}, {}
        candidates = [
            (parameter, float(group["lr"]))
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter.grad is not None and (followed is None or id(parameter) in followed)
        ]
        for parameter, rate in within(AUDITED_ELEMENTS, candidates, lambda one: one[0].numel()):
            old = whole(parameter.detach()).float().clone()
            gradient = whole(parameter.grad.detach()).float().clone()
            new = self._update(parameter, old, gradient, rate, step + 1)
            self.expected[id(parameter)] = (old, new)
            if rate:
                self.pulled[id(parameter)] = gradient != 0

    def deviation(self, optimizer: Optimizer) -> float | None:
        """Return the largest error over the largest update, or None when nothing was followed."""
        errors: list[torch.Tensor] = []
        updates: list[torch.Tensor] = []
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if id(parameter) in self.expected:
                    old, new = self.expected[id(parameter)]
                    now = whole(parameter.detach()).float()
                    # A parameter can't be nearer than its dtype is fine, however small its step.
                    room = torch.finfo(self.finest or parameter.dtype).eps * new.abs()
                    errors.append(((now - new).abs() - room).max().clamp(min=0))
                    updates.append((new - old).abs().max())
        if not errors:
            return None
        # A tensor's maximum keeps a nan, Python's may lose it.
        error, update = (float(torch.stack(found).max()) for found in (errors, updates))
        return error / update if update != 0 else (0.0 if error == 0 else math.inf)

    def moved(self, optimizer: Optimizer) -> float | None:
        """Return the share of elements with a gradient that differ now; None if there are none."""
        total = different = 0
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                pulled = self.pulled.get(id(parameter))
                if pulled is not None:
                    now = whole(parameter.detach()).float()
                    changed = now != self.expected[id(parameter)][0]
                    total += int(pulled.sum())
                    different += int((changed & pulled).sum())
        return different / total if total else None

    def _sample(self) -> None:
        """Go on with the first parameter, the middle one and the last of those followed so far."""
        kept = list(self.state)
        chosen = {kept[index] for index in (0, len(kept) // 2, -1) if kept}
        self.state = {key: self.state[key] for key in kept if key in chosen}

    def _update(
        self, key: nn.Parameter, old: torch.Tensor, grad: torch.Tensor, rate: float, count: int
    ) -> torch.Tensor:
        decay = 0.0 if UNDECAYED.search(self.names[id(key)]) else self.formula.weight_decay
        settings = self.formula.settings
        if self.formula.name != "adamw":
            grad = grad + decay * old
        if self.formula.name == "sgd":
            kept, _ = self.state.get(id(key), (torch.zeros_like(old), torch.zeros_like(old)))
            velocity = settings.momentum * kept + grad
            self.state[id(key)] = (velocity, kept)
            return old - rate * velocity
        beta1, beta2 = settings.beta1, settings.beta2
        first, second = self.state.get(id(key), (torch.zeros_like(old), torch.zeros_like(old)))
        first = beta1 * first + (1 - beta1) * grad
        second = beta2 * second + (1 - beta2) * grad * grad
        self.state[id(key)] = (first, second)
        mean, spread = first / (1 - beta1**count), second / (1 - beta2**count)
        start = old * (1 - rate * decay) if self.formula.name == "adamw" else old
        return start - rate * mean / (spread.sqrt() + settings.eps)


@contextmanager
def watch(
    model: nn.Module,
    formula: Formula,
    compare: CompareGradients,
    write: Callable[[OptimizerStep], None],
) -> Iterator[None]:
    """Write one `OptimizerStep` for each step that any optimizer takes meanwhile."""
    audit = Audit(formula, {id(p): name for name, p in model.named_parameters()})
    step, stretch = 0, -1
    last: weakref.ref[Optimizer] | None = None
    seen: tuple[tuple[float, ...], float, Comparison] = ((), 0.0, Comparison())

    def before(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        nonlocal seen
        groups = [group for group in optimizer.param_groups if group["params"]]
        gradients = [p.grad for group in groups for p in group["params"] if p.grad is not None]
        norms = torch._foreach_norm([whole(g.detach()).float() for g in gradients] or [NOTHING])
        rates = tuple(float(group["lr"]) for group in groups)
        known = {id(p) for group in groups for p in group["params"]}
        seen = (rates, torch.stack(norms).norm().item(), compare(model, known))
        audit.before(optimizer, step)

    def after(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        nonlocal step, stretch, last
        deviation = audit.deviation(optimizer)
        moved = audit.moved(optimizer) if step < AUDITED_STEPS else None
        if last is None or last() is not optimizer:
            stretch, last = stretch + 1, weakref.ref(optimizer)
        rates, norm, own = seen
        told = (own.error, stretch, moved, own.norm, own.factor)
        write(OptimizerStep(step, rates, norm, deviation, *told))
        step += 1

    with around_steps(before, after):
        yield
