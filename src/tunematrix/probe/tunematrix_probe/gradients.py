"""The gradients that reach an optimizer, beside our own over all passes of its step.

Each training pass of an audited step is made again once its backward pass is over, and multiplied
with the gradient that really arrived at its outputs. Nothing is added to any parameter's gradient.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch

from . import comparing, graph, repeating, sampling
from .comparing import TOLERANCES, Compared
from .losses import Losses
from .models import Model
from .precision import Precision
from .repeating import Pass
from .state import OptimizerState, ProcessState, is_sharded

AT_ONCE = 64
"""Passes that may wait for their backward passes."""
OUTPUTS = 256
"""Tensors that a model may return and get a gradient for."""


class Gradients:
    """Repeats passes, sums up what they come to, and compares it when the optimizer steps."""

    def __init__(self, state: ProcessState, losses: Losses, precision: Precision) -> None:
        self.state, self.losses, self.precision = state, losses, precision
        self.entered_with: tuple[Any, Any] | None = None
        self.waiting: list[Pass] = []
        self.sums: dict[int, torch.Tensor] = {}
        self.last: dict[int, torch.Tensor] = {}
        self.repeated: dict[int, int] = {}
        self.unused = 0
        self.lowest = torch.float64
        self.blocked = ""
        self.outside: set[int] = set()
        self.strides: dict[int, int] = {}
        self._chosen: dict[int, list[Any]] = {}

    def model_found(self, model: Model) -> None:
        """Nothing needs to be known of a model before."""

    def entered(self, model: Model) -> None:
        """Remember what a pass of an audited step is about to draw."""
        self.entered_with = None
        if self.state.auditing and not model.unaudited:
            self.state.safely("gradient", self._enter, model)

    def _enter(self, model: Model) -> None:
        device = next(model.inner().parameters()).device
        self.entered_with = (repeating.RandomStates.now(device), repeating.autocast_now(device))

    def left(self, model: Model, args: Any, kwargs: Any, output: Any, outputs: Any) -> None:
        """Remember what a pass of an audited step was given, and wait for its gradients."""
        if not self.state.auditing or "gradient" in self.state.off.parts:
            return
        if self.entered_with is None:
            self.blocked = model.unaudited or "a pass had begun before it could be followed"
            return
        self.state.safely("gradient", self._leave, model, args, kwargs, output, outputs)

    def _leave(self, model: Model, args: Any, kwargs: Any, output: Any, outputs: Any) -> None:
        draws, autocast = self.entered_with  # type: ignore[misc]
        odd = repeating.changeable([list(args), dict(kwargs)])
        if odd:
            self.blocked = f"a model is given an object that its call may change ({odd})"
            return
        done = [p for p in self.waiting if p.repeated]
        for old in done[: max(0, len(self.waiting) - AT_ONCE + 1)]:
            self.waiting.remove(old)
        if len(self.waiting) >= AT_ONCE:
            self.blocked = f"more than {AT_ONCE} passes wait for a backward pass"
            return
        one = Pass(model, draws, autocast, args=args, kwargs=kwargs)
        one.training = bool(model.ref().training)
        one.step, one.pass_number = self.state.steps, self.state.pass_number - 1
        one.versions = repeating.versions_of(args, kwargs)
        self.outside |= graph.parameters_above([tensor for tensor, _ in one.versions])
        for path, tensor in outputs:
            one.shown[path] = repeating.some_of(tensor)
            tensor.register_hook(self._catching(one, path))
            graph.mark(tensor)
        loss = getattr(output, "loss", None)
        if isinstance(loss, torch.Tensor) and loss.numel() == 1:
            one.model_loss = loss.detach().clone()
        self.waiting.append(one)

    def _catching(self, one: Pass, path: str) -> Any:
        def take(gradient: Any) -> None:
            # An output that a loss doesn't use may get None.
            if gradient is None or not self.state.backward:
                return
            if gradient.requires_grad:
                self.blocked = "a backward pass makes a graph of its own (create_graph)"
            elif one.repeated and one not in self.waiting:
                self.blocked = f"a pass gets gradients after {AT_ONCE} later ones"
            else:
                before = one.arrived.get(path)
                now = gradient.detach()
                one.arrived[path] = now if before is None else before + now

        def arrived(gradient: Any) -> None:
            self.state.safely("gradient", take, gradient)

        return arrived

    def before_backward(self, tensors: Any) -> None:
        """Find the parameters that a loss uses past all models, such as a penalty of its own."""
        if self.waiting and self.state.auditing:
            self.outside |= graph.parameters_above(tensors)

    def after_backward(self, loss: Any) -> None:
        """Repeat the passes that a backward pass has gone through."""
        ready = [one for one in self.waiting if one.arrived]
        if not ready or self.blocked:
            for one in ready:
                one.arrived = {}
            return
        self.last = {}
        for one in ready:
            self.state.busy = True
            try:
                self._repeat(one, loss if len(ready) == 1 else None)
            finally:
                self.state.busy = False
                # Another loss may yet lead through the same pass.
                one.arrived, one.repeated = {}, True

    def _repeat(self, one: Pass, loss: Any) -> None:
        model = one.model.inner()
        reason = repeating.reason_against(one.model)
        if any(tensor._version != version for tensor, version in one.versions):
            reason = "the inputs of a pass were written to after it"
        if bool(one.model.ref().training) != one.training:
            reason = "the model's mode has changed since the pass"
        if reason:
            self.blocked = reason
            return
        device = next(model.parameters()).device
        chosen = self._choose(one.model)
        with repeating.left_alone(model, device), repeating.without_checkpointing(model):
            with self.precision.looking(one):
                outputs, output = repeating.repeated(one)
            tolerance = self._tolerance(one, outputs)
            if changed := repeating.differs(one, outputs, tolerance):
                self.blocked = f"a pass made again doesn't come out the same ({changed})"
                return
            asked = [path for path in one.arrived if path in outputs]
            if len(asked) > OUTPUTS:
                self.blocked = f"a model returns more than {OUTPUTS} tensors that get gradients"
                return
            self.state.inside("loss", self.losses.look, one, outputs, output, loss)
            found = self._products(one, outputs, asked, chosen)
            if found is None:
                self.blocked = "too many of a model's outputs come from one another"
                return
        self._add(found)

    def _products(self, one: Pass, outputs: Any, asked: list[str], chosen: list[Any]) -> Any:
        with torch.autocast(one.autocast[0], enabled=False):
            own = comparing.from_outside(one, outputs, asked)
            if own is None:
                return None
            with sampling.taking(chosen, self.strides) as taken:
                torch.autograd.grad(
                    [outputs[path] for path in own],
                    chosen,
                    list(own.values()),
                    allow_unused=True,
                )
            return taken

    def _add(self, found: dict[int, torch.Tensor]) -> None:
        for key, part in found.items():
            self.last[key] = part[:: max(1, part.numel() // 64)].clone()
            before = self.sums.get(key)
            self.sums[key] = part if before is None else before.add_(part)
            self.repeated[key] = self.repeated.get(key, 0) + 1

    def _tolerance(self, one: Pass, outputs: dict[str, torch.Tensor]) -> float:
        dtypes = {tensor.dtype for tensor in outputs.values()}
        if one.autocast[2]:
            dtypes.add(one.autocast[1])
        dtypes |= {p.dtype for p in one.model.inner().parameters() if p.is_floating_point()}
        for dtype in dtypes:
            if TOLERANCES.get(dtype, 0.0) > TOLERANCES[self.lowest]:
                self.lowest = dtype
        return TOLERANCES[self.lowest] * (1 if "compiled" in one.model.wrappers else 0.1)

    def _choose(self, model: Model) -> list[Any]:
        """Return the parameters whose gradients are made, all that can be."""
        known = [one() for one in self._chosen.get(model.number, ())]
        if known and all(p is not None and p.requires_grad for p in known):
            return known
        trained = [p for p in model.inner().parameters() if p.requires_grad]
        chosen = [p for p in trained if not p._backward_hooks and not is_sharded(p)]
        self.strides.update(sampling.strides(chosen))
        self._chosen[model.number] = [weakref.ref(p) for p in chosen]
        return chosen

    def twice(self, *args: Any, create_graph: bool = False, **kwargs: Any) -> None:
        """Note that somebody asks for gradients of gradients, as a penalty on them does."""
        if create_graph and not self.state.busy:
            self.blocked = "gradients of gradients are asked for (create_graph)"

    def zeroed(self, parameters: list[Any]) -> None:
        """Forget what an optimizer has forgotten."""
        for parameter in parameters:
            self.sums.pop(id(parameter), None)
            self.repeated.pop(id(parameter), None)

    def compare(self, one: OptimizerState, due: float, scaling: float) -> None:
        """Hold the gradients of an optimizer's parameters beside our own, before it steps.

        `due` is what clipping and a GradScaler have to multiply our own with, `scaling` what the
        optimizer itself will yet multiply what reached it with.
        """
        own = {
            id(p): (p, self.sums[id(p)])
            for p in one.parameters()
            if id(p) in self.sums and id(p) not in self.outside
        }
        if self.blocked or not own:
            reason = self.blocked or "no pass of a model led to its parameters"
            self.state.off.pass_over("gradient", reason, one.step)
            return
        self.state.writer.write(self._comparison(one, own).record(due, scaling))

    def _comparison(self, one: OptimizerState, own: Any) -> Compared:
        names: dict[int, str] = {}
        for model in self.state.models:
            names.update(model.names())
        several = max(self.repeated.get(key, 0) for key in own) > 1
        return Compared(
            one=one,
            own=own,
            strides=self.strides,
            last=self.last if several else {},
            names=names,
            passes=max(self.repeated.get(key, 0) for key in own),
            unused=sum(not p.repeated for p in self.waiting),
            tolerance=TOLERANCES[self.lowest],
        )

    def stepped(self, one: OptimizerState) -> None:
        """Forget the step of an optimizer."""
        self.zeroed(one.parameters())
        self.last = {}
        if not self.state.auditing:
            self.waiting, self.sums, self.repeated = [], {}, {}
        self.waiting = [
            p for p in self.waiting if p.step >= self.state.steps - 1 and not p.repeated
        ]
        self.blocked, self.outside = "", set()
