"""The optimizer's first steps, recomputed from gradients and formulas of our own.

The gradients are taken outside of the trainer, on the very batches that it is fed, so that a
scale, a skipped parameter or an ignored setting shows in what parameters and moments did. MLX's
SGD keeps no moment without momentum, so its parameters alone show the gradient that it got.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np
from mlx import nn
from mlx.optimizers import Optimizer
from mlx.utils import tree_flatten

from tunematrix.stack.engines.mlx.meters.batches import Counted
from tunematrix.stack.engines.mlx.scoring import Doubles, doubles, nats, value_and_gradients
from tunematrix.stack.yardsticks.audit import AUDITED_ELEMENTS, Formula, within
from tunematrix.stack.yardsticks.blame import passing


@dataclass(frozen=True)
class StepErrors:
    """How far a step was from what it should be, relative to the largest value.

    Attributes:
        update: of the parameters against the optimizer's formula.
        gradient: of the gradients that the optimizer got against our own, the worst tensor; None
            where the step leaves no trace of them.
        moved: share of elements with a gradient that differ after it; None at a rate of 0.
    """

    update: float
    gradient: float | None
    moved: float | None


@dataclass(frozen=True)
class Followed:
    """One parameter through one step.

    Attributes:
        error: largest distance from where it should be; update: largest distance that it went.
        moments: largest relative error of the optimizer's moments.
        gradient: as in `StepErrors`.
    """

    error: float
    update: float
    moments: float
    gradient: float | None


@dataclass
class UpdateAudit:
    """Follows some parameters through a step, in float64.

    Attributes:
        old: the parameters before the step.
        gradients: of the step's summed nats so far; nats and tokens: those it is summed over.
        first, second: the optimizer's moments before the step; SGD's velocity is a first one.
    """

    formula: Formula
    old: dict[str, Doubles] = field(default_factory=dict)
    gradients: dict[str, Doubles] = field(default_factory=dict)
    nats: float = 0.0
    tokens: int = 0
    first: dict[str, Doubles] = field(default_factory=dict)
    second: dict[str, Doubles] = field(default_factory=dict)

    def begin(self, model: nn.Module) -> None:
        """Remember where parameters are before a step."""
        self.old, self.gradients, self.nats, self.tokens = {}, {}, 0.0, 0
        trained = tree_flatten(model.trainable_parameters())
        for name, parameter in within(AUDITED_ELEMENTS, trained, lambda one: one[1].size):
            self.old[name] = doubles(parameter)

    def add(self, model: nn.Module, batch: mx.array, found: Counted) -> None:
        """Add a micro-batch's gradient, by the definition of cross-entropy."""
        with _same_randomness():
            value, gradients = value_and_gradients(
                model, lambda: passing(nats, model, batch, found.targets, found.mask)
            )
        self.nats += value
        self.tokens += found.tokens
        for name in self.old:
            self.gradients[name] = self.gradients.get(name, 0.0) + doubles(gradients[name])

    def errors(self, model: nn.Module, optimizer: Optimizer, step: int) -> StepErrors | None:
        """Compare a step, from 0, with what was to be expected; None when nothing was followed."""
        if not self.old:
            return None
        now = dict(tree_flatten(model.trainable_parameters()))
        state = dict(tree_flatten(optimizer.state))
        rate = float(optimizer.learning_rate.item())
        follow = self._sgd if self.formula.name == "sgd" else self._adam
        steps = [follow(n, doubles(now[n]), state, rate, step + 1) for n in self.old]
        # An array's maximum keeps a nan, Python's may lose it.
        error, update = np.max([s.error for s in steps]), np.max([s.update for s in steps])
        gradients = [s.gradient for s in steps if s.gradient is not None]
        return StepErrors(
            update=float(np.max([_ratio(error, update), *(s.moments for s in steps)])),
            gradient=float(np.max(gradients)) if gradients else None,
            moved=self._moved({name: doubles(now[name]) for name in self.old}) if rate else None,
        )

    def _moved(self, now: Mapping[str, Doubles]) -> float | None:
        pulled = {name: self.gradients[name] != 0 for name in self.old}
        total = sum(int(mask.sum()) for mask in pulled.values())
        moved = sum(int((mask & (now[n] != self.old[n])).sum()) for n, mask in pulled.items())
        return moved / total if total else None

    def _adam(
        self, name: str, now: Doubles, state: Mapping[str, mx.array], rate: float, count: int
    ) -> Followed:
        """Follow a parameter under Adam or AdamW; `count` is the step's number, from 1.

        They divide a gradient by its own size: where that is next to nothing, rounding decides
        about the update. So parameters are held against the formula over the optimizer's own
        moments, and those against the gradient that they show it got.
        """
        if f"{name}.m" not in state or f"{name}.v" not in state:
            return Followed(math.inf, 1.0, math.inf, math.inf)
        settings = self.formula.settings
        beta1, beta2 = settings.beta1, settings.beta2
        first, second = doubles(state[f"{name}.m"]), doubles(state[f"{name}.v"])
        gradient = (first - beta1 * self.first.get(name, 0.0)) / (1 - beta1)
        wanted = beta2 * self.second.get(name, 0.0) + (1 - beta2) * gradient**2
        self.first[name], self.second[name] = first, second
        decay = self.formula.weight_decay if self.formula.name == "adamw" else 0.0
        mean, spread = first / (1 - beta1**count), second / (1 - beta2**count)
        old = self.old[name]
        new = old * (1 - rate * decay) - rate * mean / (np.sqrt(spread) + settings.eps)
        moments = _share(np.sqrt(second), np.sqrt(wanted))
        return Followed(
            error=_largest(now - new),
            update=_largest(new - old),
            moments=moments,
            gradient=self._share(name, gradient),
        )

    def _sgd(
        self, name: str, now: Doubles, state: Mapping[str, mx.array], rate: float, count: int
    ) -> Followed:
        """Follow a parameter under SGD; one that may not move shows no gradient."""
        old, decay = self.old[name], self.formula.weight_decay
        kept = self.formula.settings.momentum * self.first.get(name, 0.0) + decay * old
        velocity = kept + self.gradients[name] / self.tokens
        self.first[name] = velocity
        gradient = self._share(name, (old - now) / rate - kept) if rate else None
        return Followed(
            error=_largest(now - old + rate * velocity),
            update=_largest(rate * velocity),
            moments=0.0,
            gradient=gradient,
        )

    def _share(self, name: str, gradient: Doubles) -> float:
        return _share(gradient, self.gradients[name] / self.tokens)


def _share(found: Doubles, own: Doubles) -> float:
    return _ratio(_largest(found - own), _largest(own))


def _largest(array: Doubles) -> float:
    return float(np.abs(array).max())


def _ratio(error: float, size: float) -> float:
    return error / size if size != 0 else (0.0 if error == 0 else math.inf)


@contextmanager
def _same_randomness() -> Iterator[None]:
    """Draw what the trainer will draw in the same place, and leave it all to be drawn again."""
    high, low = mx.random.state[0].tolist()
    try:
        yield
    finally:
        # A key is its seed's two halves, and can't be set in another way.
        mx.random.seed(high << 32 | low)
