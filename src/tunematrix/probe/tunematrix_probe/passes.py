"""Backward passes, and what becomes of their gradients until a step uses them."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from .gradients import Gradients
from .models import Models
from .patches import Patches
from .state import OptimizerState, ProcessState


class Passes:
    """Counts backward passes; notes gradients that were kept, and those that were thrown away.

    Args:
        begins: takes what each backward pass begins from.
    """

    def __init__(
        self, state: ProcessState, models: Models, gradients: Gradients, begins: Any
    ) -> None:
        self.state, self.models, self.gradients = state, models, gradients
        self.begins = begins

    def install(self, patches: Patches) -> None:
        """Look at the functions that begin a backward pass, and those that zero gradients."""
        patches.around(
            "optimizer", torch.autograd, "backward", self._before, self._after, self._failed
        )
        patches.around("gradient", torch.autograd, "grad", self.gradients.twice)
        patches.around("zero", Optimizer, "zero_grad", self._zeroed)
        patches.around("zero", nn.Module, "zero_grad", self._zeroed_of)
        patches.around("optimizer", Optimizer, "__init__", after=self._built)

    def _built(self, result: Any, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        self.state.safely("optimizer", self._know, optimizer)

    def _know(self, optimizer: Any) -> None:
        self.state.optimized(optimizer)
        self.models.searches = min(self.models.searches, 2)
        self.models.search()

    def _before(self, tensors: Any = (), *args: Any, **kwargs: Any) -> None:
        state = self.state
        if state.busy:
            return
        state.backward += 1
        if state.backward == 1:
            self.models.between_passes()
            state.safely("zero", self._begin)
            losses = [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
            state.safely("gradient", self.gradients.before_backward, losses)
            state.safely("optimizer", self._note_loss, losses)
            state.safely("precision", self.begins, losses)

    def _failed(self) -> None:
        if not self.state.busy:
            self.state.backward = max(0, self.state.backward - 1)

    def _after(self, result: Any, tensors: Any = (), *args: Any, **kwargs: Any) -> None:
        state = self.state
        if state.busy or not state.backward:
            return
        state.backward -= 1
        if state.backward == 0:
            losses = [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
            loss = losses[0] if len(losses) == 1 and losses[0].numel() == 1 else None
            state.safely("gradient", self.gradients.after_backward, loss)
            for one in state.optimizers:
                one.version = _version(one)

    def _begin(self) -> None:
        counts, number = self.state.counts, self.state.counts.passes
        counts.passes += 1
        for one in self.state.optimizers:
            if not one.passes_begun:
                one.passes_begun = True
                one.kept = _kept(one)
                one.stamps = {}
            one.pending.append(number)

    def _note_loss(self, losses: list[Any]) -> None:
        if len(losses) != 1 or losses[0].numel() != 1:
            return
        # A copy: whoever trains may yet divide it in place.
        loss = losses[0].detach()
        value = float(loss) if loss.device.type == "cpu" else loss.clone()
        for one in self.state.optimizers:
            one.losses.append(value)

    def _zeroed(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        self.state.safely("zero", self._forget_one, self.state.optimized(optimizer))

    def _forget_one(self, one: OptimizerState) -> None:
        # One that looks twice before it steps (LBFGS, SAM) has used what it throws away itself, or
        # whoever wrote to the weights since then has.
        if one.pending and (one.stepping or _version(one) != one.version or _caller_optimizes()):
            self.state.used.update(one.pending)
        self._forget([one])

    def _zeroed_of(self, module: Any, *args: Any, **kwargs: Any) -> None:
        self.state.safely("zero", self._forget_of, module)

    def _forget_of(self, module: Any) -> None:
        own = {id(p) for p in module.parameters()}
        concerned = [
            one
            for one in self.state.optimizers
            if (first := next(iter(one.parameters()), None)) is not None and id(first) in own
        ]
        self._forget(concerned)

    def _forget(self, concerned: list[OptimizerState]) -> None:
        for one in concerned:
            one.zeroed += 1
            one.zeroed_late += bool(one.pending)
            # What was kept is gone before anything used it, as where two networks take turns.
            one.clips = [c for c in one.clips if c[0].before_backward]
            one.kept = 0
            dropped, one.pending = one.pending, []
            for number in dropped:
                others = any(number in other.pending for other in self.state.optimizers)
                if number not in self.state.used and not others:
                    for any_of_them in self.state.optimizers:
                        any_of_them.discarded += 1
            if self.state.auditing:
                self.gradients.zeroed(one.parameters())
        waiting = {n for one in self.state.optimizers for n in one.pending}
        self.state.used &= waiting


def _version(one: OptimizerState) -> int:
    """Return a number that changes when somebody writes to the first parameters."""
    return sum(p._version for p in one.parameters()[:8])


def _caller_optimizes() -> bool:
    """Whether zero_grad was called by a method of an optimizer other than itself."""
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__package__") == __package__:
        frame = frame.f_back
    return frame is not None and isinstance(frame.f_locals.get("self"), Optimizer)


def _kept(one: OptimizerState) -> int:
    """Count gradients of the step before that nobody has touched since."""
    if not one.stamps:
        return 0
    kept = 0
    for parameter in one.parameters():
        gradient = parameter.grad
        if gradient is not None:
            kept += one.stamps.get(id(parameter)) == (id(gradient), gradient._version)
    return kept
