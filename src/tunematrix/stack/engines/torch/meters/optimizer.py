"""The optimizer's steps, seen through PyTorch's own hooks, whoever drives them.

The first steps are recomputed here from the captured gradients by formulas of our own, and all
others for a few parameters, so that a scale, a skipped parameter or an ignored setting shows in
what the parameters did.
"""

from __future__ import annotations

import math
import re
import weakref
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim.optimizer import Optimizer

from tunematrix.evidence.events import OptimizerStep
from tunematrix.stack.engines.common import Floats
from tunematrix.stack.engines.torch.meters.expected import (
    ExpectedUpdate,
    UpdateKind,
    float32,
    spread,
    taken,
)
from tunematrix.stack.engines.torch.meters.gradients import Comparison
from tunematrix.stack.engines.torch.meters.hooks import around_steps
from tunematrix.stack.engines.torch.shards import whole
from tunematrix.stack.yardsticks.audit import AUDITED_ELEMENTS, AUDITED_STEPS, Formula, within

UNDECAYED = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)", re.IGNORECASE)
"""Names that transformers' Trainer (and the plain loop) leave without weight decay."""

TOGETHER = 1 << 16
"""Elements that are recomputed in one go: what that takes on the way shows in a process's peak."""
LATER = 1024
"""Elements of a parameter, spread over all of it, that are recomputed in later steps."""
CANCELLED = 1e-3
"""A smaller share than this of what is added up is too much rounding to be compared; one element in
a thousand has one."""
NOTHING = torch.zeros(1)
"""Stands for the gradients of an optimizer whose parameters have none."""

CompareGradients = Callable[[nn.Module, set[int]], Comparison]
"""Holds a model's gradients, of the parameters that an optimizer knows, against its own."""


@dataclass
class Audit:
    """Follows a few parameters with an optimizer of its own, in float32.

    Attributes:
        formula: what each step must do; undecayed: ids of parameters that don't decay.
        state: moments, by the parameter's id; expected: where parameters were and must be.
        finest: dtype whose rounding is allowed for whatever the parameter's; None allows its own.
            The first steps show whether that is too coarse to train in; later ones needn't.
        most: elements of each parameter that are followed; None follows all.
    """

    formula: Formula
    undecayed: Set[int]
    state: dict[int, tuple[Floats, Floats]] = field(default_factory=dict)
    expected: list[ExpectedUpdate] = field(default_factory=list)
    finest: torch.dtype | None = torch.float32
    most: int | None = None

    def before(self, optimizer: Optimizer, step: int) -> None:
        """Compute where each parameter must be after this step; later, of some of them alone."""
        if step == AUDITED_STEPS:
            self._sample()
        followed = self.state if step >= AUDITED_STEPS else None
        self.finest = torch.float32 if step < AUDITED_STEPS else None
        candidates = [
            (parameter, float(group["lr"]))
            for group in optimizer.param_groups
            for parameter in group["params"]
            if (followed is None or id(parameter) in followed) and parameter.grad is not None
        ]
        kinds: dict[UpdateKind, list[nn.Parameter]] = {}
        for parameter, rate in within(AUDITED_ELEMENTS, candidates, lambda one: one[0].numel()):
            kind = UpdateKind(rate, self._decay(parameter), parameter.dtype, parameter.device)
            kinds.setdefault(kind, []).append(parameter)
        with np.errstate(all="ignore"):
            self.expected = [
                self._expected(kind, some, step + 1)
                for kind, alike in kinds.items()
                for some in _pieces(alike)
            ]

    def deviation(self) -> float | None:
        """Return the largest error over the largest update, or None when nothing was followed."""
        if not self.expected:
            return None
        with np.errstate(all="ignore"):
            # An array's maximum keeps a nan, Python's may lose it.
            error = float(np.max([0.0, *(one.error(self.finest) for one in self.expected)]))
            update = float(np.max([np.abs(one.new - one.old).max() for one in self.expected]))
        return error / update if update != 0 else (0.0 if error == 0 else math.inf)

    def moved(self) -> float | None:
        """Return the share of elements with a gradient that differ now; None if there are none."""
        total = different = 0
        for one in self.expected:
            if one.pulled is not None:
                total += int(one.pulled.sum())
                different += int(((one.now() != one.old) & one.pulled).sum())
        return different / total if total else None

    def _sample(self) -> None:
        """Go on with some of the first parameter, the middle one and the last followed so far."""
        kept = list(self.state)
        chosen = {kept[index] for index in (0, len(kept) // 2, -1) if kept}
        self.most = LATER
        self.state = {
            key: (spread(first, LATER), spread(second, LATER))
            for key, (first, second) in self.state.items()
            if key in chosen
        }

    def _decay(self, parameter: nn.Parameter) -> float:
        return 0.0 if id(parameter) in self.undecayed else self.formula.weight_decay

    def _expected(
        self, kind: UpdateKind, parameters: Sequence[nn.Parameter], count: int
    ) -> ExpectedUpdate:
        """Take the step `count`, from 1, with parameters of one kind; keep their moments."""
        ends = list(accumulate((taken(p.numel(), self.most) for p in parameters), initial=0))
        both = float32([*parameters, *(p.grad for p in parameters)], self.most)
        old, gradient = both[: ends[-1]], both[ends[-1] :]
        places = [slice(*place) for place in pairwise(ends)]
        first, second = np.zeros_like(old), np.zeros_like(old)
        for parameter, place in zip(parameters, places, strict=True):
            if (known := self.state.get(id(parameter))) is not None:
                first[place], second[place] = known
        new, first, second = self._stepped(kind, old, gradient, (first, second), count)
        for parameter, place in zip(parameters, places, strict=True):
            self.state[id(parameter)] = (first[place], second[place])
        vague = self._vague(gradient, kind.decay * old)
        pulled = gradient != 0 if kind.rate else None
        return ExpectedUpdate(parameters, old, new, pulled, vague, self.most)

    def _vague(self, gradient: Floats, decayed: Floats) -> NDArray[np.bool_]:
        """Return where a gradient and its decay cancel out: Adam makes a whole step of the rest."""
        if self.formula.name != "adam":
            return np.zeros(gradient.shape, np.bool_)
        return (decayed != 0) & (np.abs(gradient + decayed) < CANCELLED * np.abs(decayed))

    def _stepped(
        self,
        kind: UpdateKind,
        old: Floats,
        grad: Floats,
        moments: tuple[Floats, Floats],
        count: int,
    ) -> tuple[Floats, Floats, Floats]:
        """Return where the formula takes parameters, and their moments then."""
        settings, rate, decay = self.formula.settings, kind.rate, kind.decay
        first, second = moments
        if self.formula.name != "adamw":
            grad = grad + decay * old
        if self.formula.name == "sgd":
            velocity = settings.momentum * first + grad
            return old - rate * velocity, velocity, second
        beta1, beta2 = settings.beta1, settings.beta2
        first = beta1 * first + (1 - beta1) * grad
        second = beta2 * second + (1 - beta2) * grad * grad
        mean, spread = first / (1 - beta1**count), second / (1 - beta2**count)
        start = old * (1 - rate * decay) if self.formula.name == "adamw" else old
        return start - rate * mean / (np.sqrt(spread) + settings.eps), first, second


def undecayed(model: nn.Module) -> frozenset[int]:
    """Return the ids of parameters that Trainer leaves without weight decay.

    Those of layer norms, whatever they are called (GPT-2's are ln_1 and ln_2), and some by name.
    """
    norms = (module for module in model.modules() if isinstance(module, nn.LayerNorm))
    by_kind = {id(parameter) for norm in norms for parameter in norm.parameters()}
    return frozenset(by_kind | {id(p) for n, p in model.named_parameters() if UNDECAYED.search(n)})


def _pieces(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Yield small parameters together, and each larger one by itself."""
    some: list[nn.Parameter] = []
    for parameter in parameters:
        if some and sum(p.numel() for p in some) + parameter.numel() > TOGETHER:
            yield some
            some = []
        some.append(parameter)
    yield some


@contextmanager
def watch(
    model: nn.Module,
    formula: Formula,
    compare: CompareGradients,
    write: Callable[[OptimizerStep], None],
) -> Iterator[None]:
    """Write one `OptimizerStep` for each step that any optimizer takes meanwhile."""
    audit = Audit(formula, undecayed(model))
    step, stretch = 0, -1
    last: weakref.ref[Optimizer] | None = None
    seen: tuple[tuple[float, ...], float, Comparison] = ((), 0.0, Comparison())

    def before(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        nonlocal seen
        groups = [group for group in optimizer.param_groups if group["params"]]
        gradients = [p.grad for group in groups for p in group["params"] if p.grad is not None]
        full = [whole(gradient) for gradient in gradients] or [NOTHING]
        with torch.no_grad():
            norms = torch._foreach_norm(
                [g if g.dtype == torch.float32 else g.float() for g in full]
            )
            norm = torch.stack(norms).norm().item()
        known = {id(p) for group in groups for p in group["params"]}
        rates = tuple(float(group["lr"]) for group in groups)
        seen = (rates, norm, compare(model, known))
        audit.before(optimizer, step)

    def after(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        nonlocal step, stretch, last
        deviation = audit.deviation()
        moved = audit.moved() if step < AUDITED_STEPS else None
        audit.expected = []  # NumPy shares memory with tensors, which would be taken for a copy
        if last is None or last() is not optimizer:
            stretch, last = stretch + 1, weakref.ref(optimizer)
        rates, norm, own = seen
        told = (own.error, stretch, moved, own.norm, own.factor, own.lost)
        write(OptimizerStep(step, rates, norm, deviation, *told))
        step += 1

    with around_steps(before, after):
        yield
