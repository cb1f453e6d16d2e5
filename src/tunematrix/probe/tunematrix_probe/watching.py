"""Puts all of the probe's observers into a process, and takes them out again."""

from __future__ import annotations

import atexit
import os
import sys
import time
from typing import Any

from .batches import Batches
from .clipping import Clipping
from .endings import Endings
from .gradients import Gradients
from .losses import Losses
from .models import Models
from .passes import Passes
from .patches import Patches
from .precision import Precision
from .records import ProbeEnded
from .saving import Saving
from .schedules import Schedules
from .state import OptimizerState, ProcessState
from .steps import Steps
from .updates import Updates
from .weights import Weights
from .workers import Workers


class _AtStep:
    """Compares gradients as an optimizer steps."""

    def __init__(self, gradients: Gradients, clipping: Clipping) -> None:
        self.gradients, self.clipping = gradients, clipping

    def before(self, one: OptimizerState) -> None:
        """Compare what reaches the optimizer."""
        scale = getattr(one.optimizer, "grad_scale", None)
        scaling = 1.0 if scale is None else 1.0 / float(scale)
        self.gradients.compare(one, self.clipping.due(one), scaling)

    def after(self, one: OptimizerState) -> None:
        """Nothing more is known afterwards."""


class Watching:
    """Everything that looks on in this process."""

    def __init__(self, folder: str) -> None:
        self.state = state = ProcessState(folder)
        self.pid = os.getpid()
        self.patches = Patches(self._fell_over)
        self.error = ""
        losses, self.precision = Losses(state), Precision(state)
        self.gradients = Gradients(state, losses, self.precision)
        self.batches, self.weights = Batches(state), Weights(state)
        self.models = Models(state, [self.weights, self.batches, self.gradients])
        self.weights.calls = self.models.calls
        self.schedules = Schedules(state)
        self.steps = Steps(state, {})
        self.clipping = Clipping(state, self.steps)
        self.steps.observers = {
            "gradient": _AtStep(self.gradients, self.clipping),
            "update": Updates(state),
            "weights": self.weights,
        }
        self.steps.wanted = [self._stepped]
        self.steps.first = [self.weights.begin]

    def install(self) -> None:
        """Begin to look; what can't be installed is switched off."""
        state, patches = self.state, self.patches
        passes = Passes(state, self.models, self.gradients, self.clipping.begins)
        saving = Saving(state, self.models, self.weights)
        parts: list[tuple[str, Any]] = [
            ("optimizer", self.steps.install),
            ("models", lambda: passes.install(patches)),
            ("clipping", lambda: self.clipping.install(patches)),
            ("schedule", lambda: self.schedules.install(patches)),
            ("saving", lambda: saving.install(patches)),
            ("workers", lambda: Workers(state).install(patches)),
            ("precision", self._follow_autocast),
            ("ending", lambda: Endings(state).install(patches)),
        ]
        for part, install in parts:
            state.safely(part, install)
        self._hook = sys.excepthook
        sys.excepthook = self._raised
        atexit.register(self.end, "exit")

    def _follow_autocast(self) -> None:
        import torch

        self.patches.around("precision", torch.autocast, "__init__", self.precision.autocast_asked)

    def _fell_over(self, part: str, error: Exception) -> None:
        self.state.off.fell_over(part, error, self.state.steps)

    def _stepped(self, one: OptimizerState) -> None:
        self.gradients.stepped(one)
        self.clipping.stepped(one)
        self.batches.read()
        self.models.stepped(one)

    def _raised(self, kind: Any, error: Any, trace: Any) -> None:
        self.error = kind.__name__
        self._hook(kind, error, trace)

    def end(self, how: str) -> None:
        """Write what is known at the end, and leave PyTorch as it was."""
        atexit.unregister(self.end)
        if sys.excepthook == self._raised:
            sys.excepthook = self._hook
        if os.getpid() != self.pid:
            return
        state = self.state
        state.safely("optimizer", self.steps.end)
        state.safely("batch", self.batches.read)
        state.safely("schedule", self.schedules.write)
        if state.steps:
            state.safely("weights", self.weights.write, True)
        counts = state.counts
        state.writer.write(
            ProbeEnded(
                seconds=time.time() - state.began,
                how="exception" if self.error else how,
                error=self.error,
                backward_passes=counts.passes,
                forward_passes=counts.forwards,
            )
        )
        self.steps.remove()
        self.models.remove()
        self.patches.undo()


_now: Watching | None = None


def begin(folder: str) -> None:
    """Begin to watch this process, unless that is going on."""
    global _now
    if _now is None:
        _now = Watching(folder)
        _now.state.writer.begin()
        _now.install()


def end(how: str) -> None:
    """End it."""
    global _now
    if _now is not None:
        _now.end(how)
        _now = None
