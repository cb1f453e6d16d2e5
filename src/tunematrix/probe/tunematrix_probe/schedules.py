"""Learning-rate schedulers: how often each is stepped, beside its optimizer."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

from torch.optim import lr_scheduler

from .patches import Patches
from .records import SeenScheduler
from .state import OptimizerState, ProcessState, inner_of

BUILDING = object()
"""Stands for a scheduler that is being built."""


@dataclass
class FollowedScheduler:
    """A scheduler, and how often it was stepped.

    Attributes:
        born: steps that its optimizer had made when it was built; ends: its own step, of `calls`,
            with which what it is made for is over; None where nothing says so.
    """

    number: int
    ref: Any
    name: str
    optimizer: Any
    born: int
    by_metric: bool
    length: int | None = None
    ends: int | None = None
    calls: int = 0
    before_first: int = 0


class Schedules:
    """Counts calls of schedulers' `step` from outside of any scheduler."""

    def __init__(self, state: ProcessState) -> None:
        self.state = state
        self.known: list[FollowedScheduler] = []
        self._number = 0
        self._patches: Patches | None = None
        self._classes: set[type] = set()
        self._stack: list[Any] = []

    def install(self, patches: Patches) -> None:
        """Look at schedulers as they are built: each class has a `step` of its own, or not."""
        self._patches = patches
        base = getattr(lr_scheduler, "LRScheduler", None) or lr_scheduler._LRScheduler
        kinds = [base, lr_scheduler.ReduceLROnPlateau, lr_scheduler.SequentialLR]
        kinds += [lr_scheduler.ChainedScheduler]
        for kind in dict.fromkeys(kinds):
            # As it is built, a scheduler makes its first step itself.
            patches.around("schedule", kind, "__init__", self._begin, self._built, self._failed)

    def _begin(self, *args: Any, **kwargs: Any) -> None:
        self._stack.append(BUILDING)

    def _failed(self) -> None:
        if self._stack:
            self._stack.pop()

    def _built(self, result: Any, scheduler: Any, *args: Any, **kwargs: Any) -> None:
        self._failed()
        self.state.safely("schedule", self._know, scheduler)

    def _know(self, scheduler: Any) -> None:
        if any(one.ref() is scheduler for one in self.known):
            return
        optimizer = getattr(scheduler, "optimizer", None)
        if optimizer is None:
            return
        # Of what consists of several, these are stepped by it alone, and some of them late.
        parts = [id(part) for part in getattr(scheduler, "_schedulers", ())]
        self.known = [one for one in self.known if id(one.ref()) not in parts]
        one = self.state.optimized(inner_of(optimizer))
        by_metric = isinstance(scheduler, lr_scheduler.ReduceLROnPlateau)
        self.known.append(
            FollowedScheduler(
                self._number, weakref.ref(scheduler), type(scheduler).__name__, one, one.step,
                by_metric,
                _length(scheduler),
                _length(scheduler) or _in_lambdas(scheduler),
            )
        )  # fmt: skip
        self._number += 1
        for kind in type(scheduler).__mro__:
            if "step" in vars(kind) and kind not in self._classes and self._patches is not None:
                self._classes.add(kind)
                self._patches.around(
                    "schedule", kind, "step", self._stepping, self._stepped, self._failed
                )

    def _stepping(self, scheduler: Any, *args: Any, **kwargs: Any) -> None:
        is_own = any(one is scheduler or one is BUILDING for one in self._stack)
        if not is_own:
            self.state.safely("schedule", self._count, scheduler, not self._stack)
        self._stack.append(scheduler)

    def _stepped(self, result: Any, *args: Any, **kwargs: Any) -> None:
        self._failed()

    def _count(self, scheduler: Any, by_itself: bool) -> None:
        for one in self.known:
            if one.ref() is scheduler:
                one.calls += 1
                one.before_first += one.optimizer.step == 0
                one.optimizer.schedule_calls += by_itself
                _expect_the_end(one)

    def write(self) -> None:
        """Write how things stand."""
        for one in self.known:
            optimized: OptimizerState = one.optimizer
            self.state.writer.write(
                SeenScheduler(
                    scheduler=one.number,
                    name=one.name,
                    optimizer=optimized.number if optimized.step else None,
                    calls=one.calls,
                    before_first=one.before_first,
                    steps=optimized.step - one.born,
                    by_metric=one.by_metric,
                    length=one.length,
                )
            )


def _expect_the_end(one: FollowedScheduler) -> None:
    """Have the step looked at closely with which a schedule is over, be it stepped per epoch."""
    optimized: OptimizerState = one.optimizer
    steps = optimized.step - one.born
    if one.ends and steps:
        optimized.ends = one.born + round(one.ends * steps / one.calls) - 1
        optimized.audit = optimized.audit or optimized.step == optimized.ends


def _in_lambdas(scheduler: Any) -> int | None:
    """Return the number of steps that transformers' schedules are made for."""
    given = (getattr(one, "keywords", {}) for one in getattr(scheduler, "lr_lambdas", ()))
    return next((int(k["num_training_steps"]) for k in given if "num_training_steps" in k), None)


def _length(scheduler: Any) -> int | None:
    found = (getattr(scheduler, name, None) for name in ("total_steps", "T_max", "total_iters"))
    return next((int(n) for n in found if isinstance(n, (int, float)) and n > 0), None)
