"""Functions that clip gradients, and PyTorch's GradScaler."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.utils import clip_grad

from . import graph
from .patches import Patches
from .records import SeenClip, SeenScaler
from .state import OptimizerState, ProcessState, inner_of
from .steps import Steps


class Clipping:
    """Notes what was clipped, and by how much, before each step."""

    def __init__(self, state: ProcessState, steps: Steps) -> None:
        self.state, self.steps = state, steps
        self.scales = self.scaled_loss = False
        self.unscaled: set[int] = set()
        self.given: Any = ()

    def install(self, patches: Patches) -> None:
        """Look at the functions wherever they can be had from."""
        for name, after in (("clip_grad_norm_", self._norm), ("clip_grad_value_", self._value)):
            patches.around("clipping", clip_grad, name, self._listed, after)
            inner = getattr(clip_grad, name)
            if hasattr(torch.nn.utils, name):
                original = getattr(torch.nn.utils, name)
                setattr(torch.nn.utils, name, inner)
                patches.add(_restoring(name, inner, original))
        try:
            from torch.amp import grad_scaler
        except ImportError:  # before PyTorch 2.3
            from torch.cuda.amp import grad_scaler

        patches.around("precision", grad_scaler.GradScaler, "scale", after=self._scale)
        patches.around("precision", grad_scaler.GradScaler, "unscale_", after=self._unscale)
        patches.around("precision", grad_scaler.GradScaler, "step", self._scaler_step)

    def _listed(self, parameters: Any = (), *args: Any, **kwargs: Any) -> Any:
        """Look at what an iterator gives, and pass on another one that gives the same."""
        self.given = parameters
        if isinstance(parameters, Iterator):
            self.given = list(parameters)
            return ((one for one in self.given), *args), kwargs
        return None

    def _norm(
        self, result: Any, parameters: Any = (), max_norm: Any = 0.0, *args: Any, **kwargs: Any
    ) -> None:
        self.state.safely("clipping", self._note, "norm", parameters, max_norm, result)

    def _value(
        self, result: Any, parameters: Any = (), clip_value: Any = 0.0, *a: Any, **k: Any
    ) -> None:
        self.state.safely("clipping", self._note, "value", parameters, clip_value, None)

    def _note(self, way: str, parameters: Any, limit: Any, norm: Any) -> None:
        # What is kept would outlive the model that it belongs to.
        parameters, self.given = self.given, ()
        given = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
        clipped = {id(p) for p in given if p.grad is not None}
        for one in self.state.optimizers:
            own = {id(p) for p in one.parameters() if p.grad is not None}
            clip = SeenClip(
                way=way,
                limit=float(limit),
                norm=None,
                tensors=len(clipped),
                ours=len(own & clipped),
                scaled=self.scaled_loss and id(one.optimizer) not in self.unscaled,
                before_backward=not one.pending,
            )
            one.clips.append((clip, norm.detach() if isinstance(norm, torch.Tensor) else norm))

    def _scale(self, result: Any, scaler: Any, *args: Any, **kwargs: Any) -> None:
        if scaler.is_enabled() and isinstance(result, torch.Tensor):
            self.scales = True
            graph.mark(result, graph.SCALED)

    def begins(self, losses: list[Any]) -> None:
        """Note whether a backward pass begins from what a GradScaler has scaled."""
        if self.scales and not self.scaled_loss:
            self.scaled_loss = any(map(graph.is_scaled, losses))

    def _unscale(self, result: Any, scaler: Any, optimizer: Any) -> None:
        if scaler.is_enabled():
            self.unscaled.add(id(inner_of(optimizer)))

    def _scaler_step(self, scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        self.state.safely("precision", self._note_scaler, scaler, optimizer)

    def _note_scaler(self, scaler: Any, optimizer: Any) -> None:
        own = id(inner_of(optimizer))
        enabled = bool(scaler.is_enabled())
        self.steps.scaler = SeenScaler(
            factor=float(scaler.get_scale()) if enabled else 1.0,
            enabled=enabled,
            scaled_loss=self.scaled_loss,
            unscaled=own in self.unscaled,
        )

    def due(self, one: OptimizerState) -> float:
        """Return what clipping and a GradScaler have to multiply the losses' gradients with."""
        due = 1.0
        if self.steps.scaler is not None and self.steps.scaler.scaled_loss:
            due /= self.steps.scaler.factor
        for clip, norm in one.clips:
            if clip.way == "norm" and norm is not None and clip.ours:
                due *= min(1.0, clip.limit / (float(norm) + 1e-6))
        return due

    def stepped(self, one: OptimizerState) -> None:
        """Forget the step of an optimizer."""
        self.unscaled.discard(id(one.optimizer))
        self.scaled_loss, self.given = False, ()


def _restoring(name: str, own: Any, original: Any) -> Any:
    def restore() -> None:
        if getattr(torch.nn.utils, name) is own:
            setattr(torch.nn.utils, name, original)

    return restore
