"""What an optimizer does to its parameters, beside its formula, for some elements of each.

Adam, AdamW and SGD are written out here in float64. Moments are the optimizer's own as they stood
before the step; those of the first two steps are computed here from nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import torch

from . import sampling
from .records import NAMES, SeenUpdate
from .state import OptimizerState, ProcessState, plain

NAMED = re.compile(r"^(?:my|own|custom|simple|plain|fused)?_?(adamw|adam|sgd)$", re.IGNORECASE)
"""Classes that are called after a formula, and so have to follow it."""
NEEDED = {
    "adamw": ("lr", "betas", "eps", "weight_decay"),
    "adam": ("lr", "betas", "eps", "weight_decay"),
    "sgd": ("lr", "momentum", "weight_decay"),
}


def rule_of(optimizer: Any) -> str:
    """Return whose formula an optimizer has to follow: by its class, or the name of that."""
    rule = ""
    for base in type(optimizer).__mro__:
        if base.__module__.startswith("torch.optim"):
            rule = base.__name__.lower() if base.__name__ in ("AdamW", "Adam", "SGD") else ""
            break
        if "step" in vars(base):
            match = NAMED.match(base.__name__)
            rule = match[1].lower() if match else ""
            break
    # Adam with decay that isn't part of the gradient is AdamW by another name.
    if rule == "adam" and optimizer.defaults.get("decoupled_weight_decay"):
        rule = "adamw"
    groups = optimizer.param_groups
    return rule if all(key in g for g in groups for key in NEEDED.get(rule, ())) else ""


@dataclass
class FollowedElements:
    """Some elements of one parameter, before a step; all in float64 on the CPU.

    Attributes:
        parameter, group; where: which elements; gradient, before: of them, (elements,).
        first, second: moments before; step: that the optimizer has made for it; None: not known.
        top: largest moment so far, for amsgrad.
    """

    parameter: Any
    group: Any
    where: torch.Tensor
    gradient: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    before: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    first: torch.Tensor | None = None
    second: torch.Tensor | None = None
    top: torch.Tensor | None = None
    step: int | None = None


class Updates:
    """Looks at a step of an optimizer from before it to after it."""

    def __init__(self, state: ProcessState) -> None:
        self.state = state
        self.followed: dict[int, list[FollowedElements]] = {}
        self._moments: dict[int, dict[int, tuple[Any, Any]]] = {}
        self._left: dict[int, dict[int, tuple[Any, Any]]] = {}
        self._between: dict[int, Any] = {}
        self._places: dict[int, dict[int, Any]] = {}

    @torch.no_grad()
    def before(self, one: OptimizerState) -> None:
        """Read what a step begins from."""
        optimizer = one.optimizer
        rule = rule_of(optimizer)
        known = self._moments.get(one.number, {}) if one.step < 2 else {}
        places = self._places.pop(one.number, {}) if one.step == 1 else {}
        found = []
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None or gradient.is_sparse or plain(parameter).numel() == 0:
                    continue
                flat = sampling.flat(gradient)
                where = places.get(id(parameter))
                where = sampling.places(flat) if where is None else where
                found.append(FollowedElements(parameter, group, where))
        # Read with one transfer for all.
        gradients = sampling.together([sampling.flat(f.parameter.grad)[f.where] for f in found])
        values = sampling.together([sampling.flat(f.parameter)[f.where] for f in found])
        scale = getattr(optimizer, "grad_scale", None)
        for one_of, gradient, value in zip(found, gradients, values):
            one_of.gradient = gradient if scale is None else gradient / float(scale)
            one_of.before = value
        self._between[one.number] = self._compare(one, found)
        if rule:
            self._read_moments(optimizer, rule, found, known)
        self.followed[one.number] = found

    def _compare(self, one: OptimizerState, found: list[FollowedElements]) -> Any:
        """Count what has changed since the step before, and what of it is as before that."""
        left = self._left.pop(one.number, None)
        if left is None or one.step != 1:
            return None, None
        pairs = [(f.before, *left[id(f.parameter)]) for f in found if id(f.parameter) in left]
        changed = [(now, first) for now, first, last in pairs if not torch.equal(now, last)]
        undone = sum(torch.equal(now, first) for now, first in changed)
        return len(changed), undone

    def _read_moments(
        self, optimizer: Any, rule: str, found: list[FollowedElements], known: dict[int, Any]
    ) -> None:
        names = ("momentum_buffer",) if rule == "sgd" else ("exp_avg", "exp_avg_sq")
        for one in found:
            state = optimizer.state.get(one.parameter, {})
            held = [state.get(name) for name in names]
            if id(one.parameter) in known:
                one.first, one.second = known[id(one.parameter)]
                one.step = 1
            elif all(value is None for value in state.values()):
                one.first = torch.zeros_like(one.before)
                one.second = torch.zeros_like(one.before)
                one.step = 0
            elif all(_is_like(value, one.parameter) for value in held):
                moments = [sampling.flat(value)[one.where].cpu().double() for value in held]
                one.first, one.second = moments[0], moments[-1]
                one.step = 1 if rule == "sgd" else int(float(state.get("step", 0)))
                top = state.get("max_exp_avg_sq")
                one.top = None if top is None else sampling.flat(top)[one.where].cpu().double()

    @torch.no_grad()
    def after(self, one: OptimizerState) -> None:
        """Hold what the step has done beside what it had to do, and write it."""
        followed = self.followed.pop(one.number, None)
        optimizer = one.optimizer
        if not followed or optimizer is None:
            return
        rule = rule_of(optimizer)
        values = sampling.together([sampling.flat(f.parameter)[f.where] for f in followed])
        names = {
            id(p): f"parameter {place} of group {number}"
            for number, group in enumerate(optimizer.param_groups)
            for place, p in enumerate(group["params"])
        }
        for model in self.state.models:
            names.update(model.names())
        tally = _Tally(names)
        moments: dict[int, tuple[Any, Any]] = {}
        for one_of, value in zip(followed, values):
            due = _due(rule, one_of) if rule and one_of.step is not None else None
            tally.add(one_of, value, due)
            if due is not None and one.step == 0 and one_of.step == 0:
                moments[id(one_of.parameter)] = (due[1], due[2])
        self._moments[one.number] = moments
        if one.step == 0:
            self._places[one.number] = {id(f.parameter): f.where for f in followed}
            self._left[one.number] = {
                id(f.parameter): (f.before, value) for f, value in zip(followed, values)
            }
        tally.between = self._between.pop(one.number, (None, None))
        one.rounded = tally.rounded
        self.state.writer.write(tally.record(one, rule))


def _is_like(value: Any, parameter: Any) -> bool:
    return (
        isinstance(value, torch.Tensor)
        and value.is_floating_point()
        and plain(value).shape == plain(parameter).shape
    )


def _due(rule: str, one: FollowedElements) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return where the elements have to be after the step, and the moments then."""
    group = one.group
    rate, decay = float(group["lr"]), float(group["weight_decay"])
    gradient = -one.gradient if group.get("maximize") else one.gradient
    assert one.first is not None and one.second is not None and one.step is not None
    start = one.before
    if rule == "adamw":
        start = start * (1 - rate * decay)
    elif decay:
        gradient = gradient + decay * start
    if rule == "sgd":
        return _sgd(one, start, gradient, rate)
    b1, b2 = (float(b) for b in group["betas"])
    step = one.step + 1
    first = b1 * one.first + (1 - b1) * gradient
    second = b2 * one.second + (1 - b2) * gradient * gradient
    top = second
    if group.get("amsgrad") and one.top is not None:
        top = torch.maximum(one.top, second)
    root = (top / (1 - b2**step)).sqrt() + float(group["eps"])
    return start - rate * (first / (1 - b1**step)) / root, first, second


def _sgd(
    one: FollowedElements, start: torch.Tensor, gradient: torch.Tensor, rate: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    momentum = float(one.group["momentum"])
    assert one.first is not None
    velocity = gradient
    if momentum:
        dampening = float(one.group.get("dampening", 0.0)) if one.step else 0.0
        velocity = momentum * one.first + (1 - dampening) * gradient
    move = gradient + momentum * velocity if one.group.get("nesterov") else velocity
    return start - rate * move, velocity, velocity


class _Tally:
    """Adds up what was seen of each parameter."""

    def __init__(self, names: dict[int, str]) -> None:
        self.names = names
        self.error: float | None = None
        self.worst = ""
        self.tensors = self.elements = self.moved = self.unmoved = 0
        self.rounded: set[int] = set()
        self.unmoved_names: list[str] = []
        self.between: tuple[int | None, int | None] = (None, None)
        self.not_finite = self.up = self.went = 0

    def add(self, one: FollowedElements, value: torch.Tensor, due: Any) -> None:
        """Add one parameter's elements, as they are after the step."""
        self.tensors += 1
        self.elements += value.numel()
        self.not_finite += not bool(value.isfinite().all())
        change = value - one.before
        fineness = torch.finfo(one.parameter.dtype).eps
        name = self.names.get(id(one.parameter), "")
        if due is not None:
            self._hold(value, due[0], due[0] - one.before, fineness, name)
        if bool(change.ne(0).any()):
            self.moved += 1
        elif float(one.group.get("lr", 0.0)) > 0 and bool(one.gradient.ne(0).any()):
            self.unmoved += 1
            self.unmoved_names.append(name)
            if due is not None:
                step = (due[0] - one.before).abs()
                if bool((step <= fineness * one.before.abs()).all()):
                    self.rounded.add(id(one.parameter))
        along = (change * one.gradient)[change.ne(0) & one.gradient.ne(0)]
        self.up += int((along > 0).sum())
        self.went += along.numel()

    def _hold(self, value: Any, due: Any, step: Any, fineness: float, name: str) -> None:
        size = float(step.abs().max())
        room = fineness * due.abs()
        off = float(((value - due).abs() - room).clamp(min=0).max())
        error = off / size if size else (0.0 if off == 0 else float("inf"))
        if self.error is None or not error <= self.error:
            self.error, self.worst = error, name

    def record(self, one: OptimizerState, rule: str) -> SeenUpdate:
        """Return what it has come to."""
        return SeenUpdate(
            optimizer=one.number,
            step=one.step,
            rule=rule,
            error=self.error,
            worst=self.worst,
            tensors=self.tensors,
            elements=self.elements,
            moved=self.moved,
            unmoved=self.unmoved,
            unmoved_names=tuple(self.unmoved_names[:NAMES]),
            rounded_away=len(self.rounded),
            not_finite=self.not_finite,
            uphill=self.up / self.went if self.went else None,
            changed_between=self.between[0],
            undone=self.between[1],
        )
